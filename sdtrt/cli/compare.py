"""The command `compare`: images encoded by sdtrt and other codecs, as an HTML report and a contact sheet."""

import argparse
import io
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np

from sdtrt.cli.batch import Record, any_work, each_file
from sdtrt.cli.files import check_distinct, check_not_input, is_stdin, require_writable, write_output
from sdtrt.cli.inputs import check_roi, open_image, opened_codecs
from sdtrt.cli.parsers.arguments import arguments_of, limits_of
from sdtrt.cli.parsers.compare import QUALITY
from sdtrt.codec import ImageEncodeOptions
from sdtrt.compare.comparison import OURS, Comparison, compare
from sdtrt.compare.page import contact_sheet, page
from sdtrt.images.convert import to_engine_image
from sdtrt.process.text import printable

LINE = "sdtrt {bytes} bytes, {psnr} dB; {rivals}"


def compare_command(options: argparse.Namespace) -> int:
    if options.quality is None and options.max_bytes is None:
        options.quality = QUALITY
    encode_options = ImageEncodeOptions(**arguments_of(options, ImageEncodeOptions))
    outputs = {"-o": options.output} | ({"--png": options.png} if options.png else {})
    for target in outputs.values():
        for source in options.inputs:
            check_not_input(source, target)
        require_writable(target, force=options.force)
    check_distinct(outputs)
    targets, check = [options.output] * len(options.inputs), partial(check_roi, options)
    comparisons: list[Comparison] = []
    with opened_codecs(options) as codec_of:
        if any_work(options, targets, check):
            codec_of(options.model)

        def work(source: str, target: str) -> Record:
            with open_image(source, options.frame, limits_of(options)) as image:
                pixels = to_engine_image(image, strip=True, limits=limits_of(options)).pixels
            codec, name = codec_of(options.model), name_of(source)
            comparisons.append(compare(codec, name, np.asarray(pixels), encode_options))
            return record_of(comparisons[-1])

        code = each_file(options, targets, work, LINE, check=check)
    if comparisons:
        write_output(options.output, page(comparisons).encode(), force=options.force)
        if options.png:
            stream = io.BytesIO()
            contact_sheet(comparisons).save(stream, "PNG")
            write_output(options.png, stream.getvalue(), force=options.force)
    return code


def name_of(source: str) -> str:
    return "standard input" if is_stdin(source) else printable(Path(source).name)


def record_of(comparison: Comparison) -> Record:
    ours, *rivals = comparison.results
    figures = {r.codec: {"bytes": r.nbytes, "psnr": round(r.psnr, 2), "ssim": round(r.ssim, 4)} for r in rivals}
    summary = ", ".join(f"{name} {figure['bytes']} bytes, {figure['psnr']} dB" for name, figure in figures.items())
    record: Record = {"bytes": ours.nbytes, "psnr": round(ours.psnr, 2), "ssim": round(ours.ssim, 4)}
    if comparison.roi:
        record["roi"] = {name: rounded(figure) for name, figure in asdict(comparison.roi).items()}
        summary += (
            f"; region of interest {record['roi']['region_with']} dB, without --roi {record['roi']['region_without']}"
        )
    return record | {"codec": OURS, "others": figures, "rivals": summary}


def rounded(figure: float | None) -> float | None:
    return None if figure is None else round(figure, 2)
