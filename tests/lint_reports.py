"""Reports as the linter makes them, by hand: one with everything, one clean, one of a hostile file."""

from zoo.linting.report import Finding, Judged, Report, Subgraph, Summary, Verdict

HOSTILE = "</title><script>alert('x')</script>\x1b[31m\u202e\n" + "y" * 500


def node(number: int, op: str, verdict: Verdict, macs: int = 0, part: int | None = None, torch_op: str = "") -> Judged:
    return Judged(f"node_{number}", op, f"features.{number}", torch_op or op.lower(), verdict, macs, part)


def finding(about: Judged, limit: str, fact: str, rule: str = "", severity: str = "error") -> Finding:
    return Finding(severity, about.node, about.op, about.module, limit, fact, rule)  # type: ignore[arg-type]


def mixed() -> Report:
    """Thirty activations, a wide kernel, a pooling of two sizes, an opset too high, a node that is not known."""
    activations = [node(2 * n + 1, "Mul", Verdict.REJECTED, torch_op="silu") for n in range(30)]
    convolutions = [node(2 * n, "Conv", Verdict.ACCELERATED, 1_000_000, n) for n in range(30)]
    body = [each for pair in zip(convolutions, activations, strict=True) for each in pair]
    wide = node(60, "Conv", Verdict.REJECTED, 9_000_000)
    pools = [node(61 + n, "GlobalAveragePool", Verdict.REJECTED) for n in range(3)]
    unknown = Judged("node_64", "Resize", "", "", Verdict.UNKNOWN)
    ends = [Judged("shape", "Shape", "", "", Verdict.FREE, 0), Judged("decode", "TopK", "", "", Verdict.HOST, 0)]
    findings = [
        Finding("error", "", "", "", "opset", "opset 20, the device reads up to 18"),
        *(finding(each, "operator", "Mul is not accelerated", "silu_to_relu") for each in activations),
        finding(wide, "kernel", "kernel 9x9, at most 7x7", "split_kernel"),
        *(
            finding(each, "plane", f"plane {side}x{side}, at most 1024 elements")
            for each, side in zip(pools, (56, 28, 56), strict=True)
        ),
        finding(unknown, "rank", "cannot check rank: the shape of x is not known", severity="warning"),
        finding(convolutions[0], "cost", "runs slowly on AM62A", severity="cost"),
    ]
    summary = Summary(65, 30, 39_000_000, 30_000_000, (Subgraph(1, 1_000_000),) * 30, 16)
    nodes = (ends[0], *body, wide, *pools, unknown, ends[1])
    return Report("model.onnx", "tidl-9.1", "AM62A", nodes, tuple(findings), summary, ("signs", "ranges"))


def clean() -> Report:
    """Two nodes in one subgraph."""
    nodes = (node(0, "Conv", Verdict.ACCELERATED, 500, 0), node(1, "Relu", Verdict.ACCELERATED, 0, 0))
    return Report("net", "generic_int8", "", nodes, (), Summary(2, 2, 500, 500, (Subgraph(2, 500),), None))


def hostile() -> Report:
    """Names that would end a page's title, run a script, colour a terminal, turn a line around."""
    bad = Judged(HOSTILE, HOSTILE, HOSTILE, HOSTILE, Verdict.REJECTED, None)
    found = Finding("error", HOSTILE, HOSTILE, HOSTILE, "operator", HOSTILE)
    return Report(f"{HOSTILE}.onnx", "tidl-9.1", "", (bad,), (found,), Summary(1, 0, 0, 0, (), 16), (HOSTILE,))
