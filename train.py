"""Train from a clone: python train.py lora=qv rank=8. `python train.py --help` explains the rest."""

from lightning_lora.cli.train import main

if __name__ == "__main__":
    main()
