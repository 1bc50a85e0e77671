"""A command line as words: which of them are flags, which are overrides, and what is neither."""

from collections.abc import Sequence
from dataclasses import dataclass

from lightning_lora.settings import ConfigError, shown
from lightning_lora.spelling import did_you_mean

LONGEST_ARGUMENT = 4096

SWITCHES = {
    "-m": "--multirun",
    "-r": "--run",
    "-h": "--help",
    "-sc": "--shell-completion",
    "--multirun": "--multirun",
    "--run": "--run",
    "--help": "--help",
    "--hydra-help": "--hydra-help",
    "--version": "--version",
    "--shell-completion": "--shell-completion",
    "--resolve": "--resolve",
}
VALUED = {
    "-c": "--cfg",
    "--cfg": "--cfg",
    "-p": "--package",
    "--package": "--package",
    "-i": "--info",
    "--info": "--info",
}
CHOICES = {
    "--cfg": ("job", "hydra", "all"),
    "--info": ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath"),
}
# The first three put another config in the place of ours, the last one loads a pickle.
REPLACING = ("-cp", "--config-path", "-cn", "--config-name", "-cd", "--config-dir", "--experimental-rerun")
COMMANDS = ("--run", "--multirun", "--cfg", "--info", "--shell-completion")
NOT_A_JOB = frozenset({"--hydra-help", "--version", "--shell-completion"})


@dataclass(frozen=True)
class CommandLine:
    """A command line taken apart.

    Attributes:
        flags: Hydra's flags by their long names, with their values where they take one (else "").
        overrides: The words of the form ``key=value``, in their order.
    """

    flags: dict[str, str]
    overrides: tuple[str, ...]

    @property
    def multirun(self) -> bool:
        """Whether a sweep is asked for."""
        return "--multirun" in self.flags

    @property
    def composes(self) -> bool:
        """Whether a config is made from the overrides."""
        return not NOT_A_JOB & self.flags.keys()

    @property
    def runs(self) -> bool:
        """Whether jobs would start."""
        return self.composes and not {"--cfg", "--info"} & self.flags.keys()

    def words(self) -> list[str]:
        """The flags, then the overrides: Hydra's own parser stumbles over overrides on both sides of a flag."""
        return [f"{flag}={value}" if value else flag for flag, value in self.flags.items()] + list(self.overrides)


def wants_help(words: Sequence[str]) -> bool:
    """Whether -h or --help stands anywhere."""
    return bool({"-h", "--help"} & set(words))


def parse(words: Sequence[str]) -> CommandLine:
    """Take a command line apart.

    Raises:
        ConfigError: a word is neither a flag of ours nor ``key=value``, is too long or not printable, or flags clash.
    """
    flags: dict[str, str] = {}
    overrides: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if len(word) > LONGEST_ARGUMENT or not word.isprintable():
            raise ConfigError(
                f"'{shown(word)}' is not allowed: an argument must be at most {LONGEST_ARGUMENT} printable characters"
            )
        if word.startswith("-"):
            flag, value = _flag(word, rest)
            flags[flag] = value
        else:
            overrides.append(_override(word, overrides, rest))
    _check_flags(flags)
    return CommandLine(flags, tuple(overrides))


def _flag(word: str, rest: list[str]) -> tuple[str, str]:
    name, equals, value = word.partition("=")
    if name in SWITCHES and not equals:
        return SWITCHES[name], ""
    if name in REPLACING:
        raise ConfigError(
            f"{name} is not supported: put configs of your own in groups below the current directory, for example "
            "experiments/mine.yaml for +experiments=mine"
        )
    if name not in VALUED:
        raise _unknown_flag(name, value if equals else next(iter(rest), ""))
    flag = VALUED[name]
    choices = CHOICES.get(flag, ())
    if not equals and rest and (rest[0] in choices or (flag != "--info" and "=" not in rest[0])):
        value = rest.pop(0)
    value = value or ("all" if flag == "--info" else "")
    if not value or (choices and value not in choices):
        wanted = f"one of {', '.join(choices)}" if choices else "the name of a part of the config"
        raise ConfigError(
            f"{flag}={shown(value)} is not allowed: {flag} must be {wanted}{did_you_mean(value, choices)}"
        )
    return flag, value


def _unknown_flag(name: str, following: str) -> ConfigError:
    if following and "=" not in following:
        return ConfigError(
            f"unknown flag '{shown(name)}'; a setting has no dash: {name.lstrip('-')}={shown(following)}"
        )
    known = [flag for flag in (*SWITCHES, *VALUED) if flag.startswith("--")]
    return ConfigError(f"unknown flag '{shown(name)}'{did_you_mean(name, known) or '; see --help'}")


def _override(word: str, before: list[str], rest: list[str]) -> str:
    if word.startswith("="):
        raise ConfigError(f"'{shown(word)}' has no key before the =; write key=value")
    if "=" in word:
        return word
    if word.startswith("~"):
        raise ConfigError(f"'{shown(word)}' is not supported: a setting cannot be deleted, only given another value")
    if before and before[-1].endswith("="):
        raise ConfigError(
            f"'{shown(before[-1] + ' ' + word)}' has a space after the =; write {shown(before[-1] + word)}"
        )
    values = [following.lstrip("=") for following in rest[:2] if following != "="]
    example = values[0] if values and values[0] and not values[0].startswith("-") else "VALUE"
    raise ConfigError(f"'{shown(word)}' has no value; write {shown(word)}={shown(example)}, without spaces")


def _check_flags(flags: dict[str, str]) -> None:
    commands = [flag for flag in COMMANDS if flag in flags]
    if len(commands) > 1:
        raise ConfigError(f"{' and '.join(commands)} exclude one another; choose one of them")
    if "--resolve" in flags and "--cfg" not in flags:
        raise ConfigError("--resolve has no effect without --cfg job; add it, or leave --resolve out")
