"""Writes the table of rules into the guide to surgery: ``python docs/guides/rule_table.py``."""

import inspect
from pathlib import Path

import surgery
from surgery.rule import Rule

GUIDE = Path(__file__).parent / "surgery.md"
BEGIN, END = "<!-- rules: begin -->", "<!-- rules: end -->"
# What rules are about, by words in the names of their modules; the first that fits counts.
TOPICS = {
    "Activations": ("activation",),
    "Gates and scales": ("squeeze", "gate", "scale"),
    "Normalization": ("norm",),
    "Convolution": ("kernel", "conv", "transposed", "weight", "sequence"),
    "Pooling": ("pool",),
    "Resizing": ("resiz",),
    "Attention and softmax": ("attention", "softmax"),
    "Layout": ("stem", "channels_last", "rearrange"),
    "Cleanup and others": ("",),
}


def table() -> str:
    """All rules by topic, as Markdown."""
    lines = ["| rule | promise | used | why |", "| --- | --- | --- | --- |"]
    known = surgery.rules().values()
    for topic in TOPICS:
        lines.append(f"| **{topic}** | | | |")
        lines += [_row(rule) for rule in known if _topic(rule) == topic]
    return "\n".join(lines)


def _topic(rule: Rule) -> str:
    module = type(rule).__module__.rpartition(".")[2]
    return next(topic for topic, words in TOPICS.items() if any(word in module for word in words))


def _row(rule: Rule) -> str:
    reason = " ".join((inspect.getdoc(type(rule)) or "").partition("\n\n")[0].split()).replace("|", "\\|")
    return f"| `{rule.name}` | {rule.promise} | {'default' if rule.default else 'option'} | {reason} |"


def with_table(guide: str) -> str:
    """The guide with the table as it is now."""
    head, _, rest = guide.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n{table()}\n{END}{tail}"


if __name__ == "__main__":
    GUIDE.write_text(with_table(GUIDE.read_text(encoding="utf-8")), encoding="utf-8")
    print(GUIDE)
