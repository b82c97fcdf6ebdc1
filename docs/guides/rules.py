"""Writes the table of rules into the guide to surgery: ``python docs/guides/rules.py``."""

import inspect
from pathlib import Path

import surgery
from surgery.rule import Rule

GUIDE = Path(__file__).parent / "surgery.md"
BEGIN, END = "<!-- rules: begin -->", "<!-- rules: end -->"
# Modules of surgery.rules by what they are about.
TOPICS = {
    "Activations": ("activation", "inner_activation", "bounded_activation"),
    "Gates and scales": ("squeeze_excite", "gate", "channel_scale"),
    "Normalization": ("normalization", "norm_calls", "frozen_batchnorm", "fold_batchnorm"),
    "Convolution": ("large_kernel", "large_kernel_call", "even_kernel", "transposed", "computed_weight"),
    "Pooling": ("pooling", "average_pooling", "adaptive_pooling", "blur_pooling"),
    "Resizing": ("resize",),
    "Attention and softmax": ("attention", "softmax"),
    "Layout": ("stem", "channels_last", "rearrange"),
    "Cleanup": ("auxiliary", "cleanup", "dropout", "inplace_arithmetic", "noops"),
}


def table() -> str:
    """All rules by topic, as Markdown. Raises ValueError for a rule whose module has no topic."""
    lines = ["| rule | promise | used | why |", "| --- | --- | --- | --- |"]
    topic_of = {module: topic for topic, modules in TOPICS.items() for module in modules}
    by_topic: dict[str, list[Rule]] = {topic: [] for topic in TOPICS}
    for rule in surgery.rules().values():
        module = type(rule).__module__.rpartition(".")[2]
        if module not in topic_of:
            raise ValueError(f"docs/guides/rules.py: surgery/rules/{module}.py (rule {rule.name}) has no topic")
        by_topic[topic_of[module]].append(rule)
    for topic, members in by_topic.items():
        lines.append(f"| **{topic}** | | | |")
        lines += map(_row, members)
    return "\n".join(lines)


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
