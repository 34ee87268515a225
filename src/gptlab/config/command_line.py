"""Words of a command line of hydra's: options such as --config-dir FOLDER, and overrides such as model=nano."""

OPTIONS_WITH_VALUES = (
    *("--cfg", "-c", "--package", "-p", "--experimental-rerun"),
    *("--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd"),
)
"""Options of hydra that are followed by their value, where it is not joined to them by `=`."""


def put_options_first(words: list[str]) -> list[str]:
    """Return a command line with its options before its overrides; hydra takes none that stands between overrides."""
    # its value may be left out: whatever came to stand behind it would be taken for that
    if {"--info", "-i"} & {*words}:
        return words
    options, overrides = [], []
    is_value = False
    for word in words:
        (options if word.startswith("-") or is_value else overrides).append(word)
        is_value = word in OPTIONS_WITH_VALUES
    return [*options, *overrides]
