"""Models: cards, names, files."""

DEFAULT_MODEL = "bagging_accurate"
OFFLINE_MODEL = "subfields_single_accurate"  # ships with the package
