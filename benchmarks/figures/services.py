"""Tables of the HTTP service and of data sets."""

from figures.text import load_results, markdown, prose, source


def serve() -> str:
    results = load_results("serve")
    lines = [
        [
            f"{row['clients']}",
            f"{row['decodes_per_second']:.0f}",
            f"{row['p50_ms']:.0f}",
            f"{row['p99_ms']:.0f}",
            f"{row['memory_growth_nbytes'] / 1e6:.0f}",
        ]
        for row in results["load"]
    ]
    head = ["clients", "decodes a second, 64x64", "p50, ms", "p99, ms", "memory more at the end, MB"]
    cost = results["overhead"]
    text = (
        f"Each row is {results['load'][0]['seconds']:.0f} seconds of requests. "
        f"768x512 to JPEG with 8 clients: {cost['served_ms']:.0f} ms an image, {cost['plain_ms']:.0f} ms by plain "
        f"calls on as many threads, {cost['share']:.2f} times as long."
    )
    return f"{markdown(head, lines)}\n\n{prose(text)}\n{source(results)}"


def dataset() -> str:
    results = load_results("dataset")
    count = results["pictures"]
    lines = [
        [way, f"{seconds:.1f}", f"{1000 * seconds / count:.1f}", f"{results['start_seconds'][way]:.1f}"]
        for way, seconds in results["seconds"].items()
    ]
    side = results["size"]
    head = [f"{count} photos of {side}x{side}, quality {results['quality']}", "seconds", "ms a photo", "start, seconds"]
    paces = ", ".join(f"{pace:.0f} by {way}" for way, pace in results["read_per_second"].items())
    text = f"Latents read a second, by one process: {paces}. Largest worker: {results['largest_worker_mb']} MB."
    return f"{markdown(head, lines)}\n\n{prose(text)}\n{source(results)}"


def scale() -> str:
    results, billion = load_results("dataset"), 1e9
    each = {name: nbytes / results["pictures"] for name, nbytes in results["nbytes"].items()}
    kept = {
        name: results["interrupted"][f"{name}_nbytes"] / results["interrupted"]["pictures"]
        for name in ("manifest", "listed")
    }
    ms = 1000 * results["seconds"]["one worker"] / results["pictures"]
    days = billion * ms / 1000 / 86400
    latents = results["read_per_second"]["stored latents"]
    sdt = results["read_per_second"][".sdt files"]
    rows = [
        ["time of one core, encoding", f"{ms:.1f} ms", f"{days / 365.25:.2f} years"],
        ["the same on 1,000 cores", "", f"{24 * days / 1000:.1f} hours"],
        ["JPEG, read", *amounts(each["jpg"])],
        ["`.sdt`, written", *amounts(each["sdt"])],
        ["latents as float32, if they were stored", *amounts(each["latents"])],
        ["the manifest", *amounts(kept["manifest"])],
        ["the list of samples, in memory", *amounts(kept["listed"])],
        ["reading for training, `.sdt`, time of one core", f"{1000 / sdt:.1f} ms", f"{billion / sdt / 86400:.0f} days"],
        ["the same, stored latents", f"{1000 / latents:.1f} ms", f"{billion / latents / 86400:.0f} days"],
    ]
    side = results["size"]
    head = [f"{side}x{side} pixels, quality {results['quality']}", "one image", "a billion"]
    read, hours = 8 * billion * each["jpg"], 24 * days / 1000
    text = f"To read that in {hours:.1f} hours takes {read / hours / 3600 / 1e9:.1f} Gbit/s, for 1,000 cores."
    return f"{markdown(head, rows)}\n\n{prose(text)}\n{source(results)}"


def amounts(nbytes: float) -> tuple[str, str]:
    """Return the storage of one image and of a billion images."""
    return f"{nbytes:,.0f} bytes", f"{nbytes / 1000:.{1 if nbytes > 1000 else 2}f} TB"


TABLES = {
    "serve": serve,
    "dataset": dataset,
    "scale": scale,
}
