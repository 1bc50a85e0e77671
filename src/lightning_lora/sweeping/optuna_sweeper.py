"""``hydra/sweeper=optuna``: a search in place of a grid, with any of Hydra's launchers."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.types import Override
from hydra.core.utils import JobStatus

from lightning_lora.locking import held
from lightning_lora.sweeping.composing import composed, resolved
from lightning_lora.sweeping.names import asked_for
from lightning_lora.sweeping.search_settings import SearchSettings, first_word
from lightning_lora.sweeping.sweeper import OverlaySweeper
from lightning_lora.sweeping.words import of_single_run, word

if TYPE_CHECKING:
    from lightning_lora.sweeping.search import Search


class OptunaSweeper(OverlaySweeper):
    """Maximises what the jobs return: the score of the last epoch on the dev set.

    A job that fails, or whose score is not finite, is a failed trial, and the search goes on. What the launcher itself
    raises ends the search; the trials it had are then tried again by the next start.
    """

    def __init__(self, **settings: Any) -> None:
        """Keep what ``hydra.sweeper`` says: the fields of `SearchSettings`."""
        self._settings = SearchSettings(**settings)
        super().__init__(self._settings.params)

    def sweep(self, arguments: list[str]) -> None:
        """Search until there are as many trials as asked for, and print what was found.

        Args:
            arguments: The overrides of the command line.

        Raises:
            ConfigError: the folder holds a search with other settings, or another process is at work on it.
            CannotWriteError: the file system refuses.
            SystemExit: status 1 where no trial has a result.
        """
        # Optuna takes a quarter of a second to import, what reads records a whole one.
        from lightning_lora.sweeping import progress
        from lightning_lora.sweeping.closing import told_how_to_go_on
        from lightning_lora.sweeping.search import Search

        folder = Path(self.config.hydra.sweep.dir)
        axes, fixed = self._axes(arguments)
        # Two processes would each take the other's running trials for cut off.
        refusal = f"{folder}: another process is at work on this search; stop it first, or wait"
        with told_how_to_go_on(folder, self._settings.n_trials), held(folder / ".search.lock", refusal=refusal):
            self.folder_with_config()
            search = Search(folder, axes, self._asked(axes, fixed), self._settings)
            done = len(search.completed)
            with progress.shown(self._settings.n_trials, done=done, failed=len(search.ended) - done):
                self._search(search, fixed)
            print(self._summary(search, folder, fixed))
        if search.best is None:
            raise SystemExit(1)

    def _search(self, search: "Search", fixed: Sequence[str]) -> None:
        from lightning_lora.sweeping.closing import is_stop
        from lightning_lora.sweeping.search import words

        while trials := search.next_trials():
            jobs = [[*fixed, *words(trial)] for trial in trials]
            try:
                done = self.launcher.launch(jobs, initial_job_idx=trials[0].number)
            except (KeyboardInterrupt, SystemExit) as error:
                if is_stop(error):
                    search.stop(trials)
                raise
            for trial, job in zip(trials, done, strict=True):
                score = job.return_value if job.status == JobStatus.COMPLETED else None
                search.tell(trial, score)
                result = "failed" if score is None else f"{score:.4f}"
                print(f"trial {trial.number}: {result} with {shlex.join(words(trial))}", flush=True)

    def _axes(self, arguments: list[str]) -> tuple[dict[str, Override], list[str]]:
        """What is varied, by key, and what is fixed as words; the last word for a key is the one that counts."""
        last = {override.key_or_group: override for override in self.overrides(arguments)}.values()
        axes = {override.get_key_element(): override for override in last if override.is_sweep_override()}
        return axes, [str(override.input_line) for override in last if not override.is_sweep_override()]

    def _asked(self, axes: dict[str, Override], fixed: Sequence[str]) -> list[str]:
        """The settings that determine the result of the job at the first point of all axes, overlays included."""
        words = [*fixed, *map(first_word, axes.values())]
        job = composed(self.hydra_context, self.config, words, 0)
        return [word(key, value) for key, value in asked_for(resolved(job)).items()]

    def _summary(self, search: "Search", folder: Path, fixed: Sequence[str]) -> str:
        from lightning_lora.sweeping.search import words

        done, ended = len(search.completed), len(search.ended)
        lines = [
            f"search in {folder}: {ended} of {self._settings.n_trials} trials ended, {done} with a result, "
            f"{ended - done} failed"
        ]
        if (best := search.best) is not None:
            job = composed(self.hydra_context, self.config, [*fixed, *words(best)], best.number)
            lines += [
                f"best: {best.value:.4f} with {shlex.join(words(best))} (trial {best.number})",
                f"the best of {done} scores on one dev set flatters: train it anew with seeds that the search "
                "has not used",
                f"  python train.py {shlex.join(of_single_run(self.hydra_context, job))}",
            ]
        return "\n".join(lines)
