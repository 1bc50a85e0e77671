"""Train from a clone: python train.py lora=qv rank=8. `python train.py --help` explains the rest."""

try:
    from lightning_lora.cli.train import main
except ModuleNotFoundError as error:
    raise SystemExit(f"error: no module {error.name!r} here; make install, then . .venv/bin/activate") from None

if __name__ == "__main__":
    main()
