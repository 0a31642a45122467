"""The commands that make models: `export`, `import`, `calibrate`, `engines`. What they call is imported when run."""

import argparse
from dataclasses import asdict

from sdtrt.engine.networks.backends.engine_index import (
    EngineIndex,
    EngineRecord,
    delete_engines,
    engine_states,
    engines_folder,
)
from sdtrt.engine.networks.bundle import Bundle, find_bundle
from sdtrt.errors import SdtrtError
from sdtrt.process.install import extra, require_libraries
from sdtrt.process.streams import print_json, print_message, print_result
from sdtrt.process.text import counted, printable, printable_message
from sdtrt.progress import Watch, clear_bar

EXPORT_LIBRARIES = (
    "diffusers",
    "huggingface_hub",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "safetensors",
    "torch",
    "transformers",
)


def export(options: argparse.Namespace) -> int:
    require_libraries("export", EXPORT_LIBRARIES)
    from sdtrt.export.export_options import ExportOptions
    from sdtrt.export.libraries import captured

    request = ExportOptions(
        model=options.model,
        out=options.out,
        latent_space=options.latent_space,
        half=not options.no_fp16,
        edit=not options.no_edit,
        unet=options.unet,
        photos=options.calibrate,
        revision=options.revision,
        variant=options.variant,
        allow_pickle=options.allow_pickle,
        force=options.force,
        quiet=options.quiet or options.json,
        verbose=options.verbose,
    )
    request.check()  # before PyTorch is imported, which takes seconds
    with Watch("sdtrt export", quiet=options.quiet), captured(verbose=options.verbose):
        with extra("export"):
            from sdtrt.export.build import build
        notes = build(request)
    return conclude(notes, options)


def import_pair(options: argparse.Namespace) -> int:
    require_libraries("onnx", ("onnx", "onnxruntime"))
    with extra("onnx"):
        from sdtrt.export.import_onnx import import_pair
        from sdtrt.export.import_options import ImportOptions
    import_options = ImportOptions(
        encoder=options.encoder,
        decoder=options.decoder,
        fast=options.fast,
        out=options.out,
        latent_space=options.latent_space,
        input_range=options.input_range,
        output_range=options.output_range,
        latent_scale=options.latent_scale,
        latent_shift=options.latent_shift,
        encoder_output=options.encoder_output,
        decoder_output=options.decoder_output,
        sum_outputs=options.sum_outputs,
        gradient=options.gradient,
        photos=options.calibrate,
        force=options.force,
        quiet=options.quiet or options.json,
    )
    with Watch("sdtrt import", quiet=options.quiet):
        notes = import_pair(import_options)
    return conclude(notes, options)


def calibrate(options: argparse.Namespace) -> int:
    if options.int8:
        return add_int8(options)
    if options.prior:
        require_libraries("export", ("torch",))
    from sdtrt.export.calibrate import CalibrateOptions, calibrate

    bundle = find_bundle(options.bundle)
    calibration = CalibrateOptions(
        bundle.folder, options.photos, force=options.force, quiet=options.quiet or options.json
    )
    calibration.check()  # before PyTorch is imported, which takes seconds
    prior_options = None
    if options.prior:
        with extra("export"):
            from sdtrt.export.prior.model_prior import PriorTrainingOptions
        prior_options = PriorTrainingOptions()
    with Watch("sdtrt calibrate", quiet=options.quiet):
        found = calibrate(calibration, prior_options)
    if options.json:
        print_json({"bundle": str(bundle.folder), **asdict(found)})
        return 0
    clear_bar()
    print_result(f"quality  bits per pixel  PSNR dB{'  without the prior' if options.prior else ''}")
    for row in found.rows:
        other = f"  {row.adaptive_bits_per_pixel:17.3f}" if options.prior else ""
        print_result(f"{row.quality:7}  {row.bits_per_pixel:14.3f}  {row.psnr:7.2f}{other}")
    whose = "that nothing was learned from" if found.held_out else "of the same photos, which are few"
    print_result(f"the networks alone: {found.ceiling:.2f} dB; all of {found.crops} crops {whose}")
    return 0


def add_int8(options: argparse.Namespace) -> int:
    require_libraries("onnx", ("onnx", "onnxruntime"))
    with extra("onnx"):
        from sdtrt.export.int8.decoder import add_int8_decoder

    bundle = find_bundle(options.bundle)
    with Watch("sdtrt calibrate", quiet=options.quiet):
        made = add_int8_decoder(bundle.folder, options.photos, force=options.force, quiet=options.quiet or options.json)
    if options.json:
        print_json({"bundle": str(bundle.folder), **asdict(made)})
        return 0
    clear_bar()
    kept = f"; in single precision: {', '.join(made.exact_layers)}" if made.exact_layers else ""
    print_result(f"{made.mean_loss:.3f} dB less on average, {made.worst_loss:.3f} at worst{kept}")
    return 0


def conclude(notes: list[str], options: argparse.Namespace) -> int:
    bundle = Bundle.open(options.out)
    if options.json:
        print_json({"bundle": str(bundle.folder), "latent_space": bundle.latent_space, "notes": notes})
        return 0
    for note in notes:
        print_message(printable_message(f"sdtrt: {note}"))
    if not options.quiet:
        print_result(printable(f"{bundle.folder}: latent space {bundle.latent_space}, {', '.join(bundle.files)}"))
    return 0


def engines_build(options: argparse.Namespace) -> int:
    require_libraries("onnx", ("onnx",))
    with extra("onnx"):
        from sdtrt.export.engines import EngineBuildOptions, build_engines
    done: list[tuple[EngineRecord, bool]] = []
    silent = options.json or options.quiet

    def report(plan: EngineRecord, built: bool) -> None:
        if not silent:
            if not done:
                print_head()
            print_result(ROW.format(*columns(plan), f"built in {plan.seconds} s" if built else "kept"))
        done.append((plan, built))

    build_options = EngineBuildOptions(
        bundle=find_bundle(options.bundle),
        targets=tuple(options.target.split(",")),
        builder=options.builder,
        shapes=tuple(options.shapes.split(",")) if options.shapes else None,
        workspace_nbytes=options.workspace,
        force=options.force,
        quiet=options.quiet,
    )
    with Watch("sdtrt engines build", quiet=options.quiet):
        build_engines(build_options, report)
    if options.json:
        print_json([asdict(plan) | {"built": built} for plan, built in done])
    elif not silent and not any(built for _, built in done):
        print_result(printable(f"nothing to build for {options.bundle}: {counted(len(done), 'engine')} valid"))
    return 0


def engines_list(options: argparse.Namespace) -> int:
    bundle = find_bundle(options.bundle)
    found = engine_states(bundle, EngineIndex.of(bundle))
    if options.json:
        print_json([asdict(plan) | {"state": asdict(state)} for plan, state in found])
    elif not found:
        print_result(printable(f"{bundle.name} has no engines; build them with: sdtrt engines build {options.bundle}"))
    else:
        print_head()
        for plan, state in found:
            print_result(
                printable(ROW.format(*columns(plan), f"{state.kind}{': ' if state.reason else ''}{state.reason}"))
            )
        if any(state.kind in {"stale", "damaged"} for _, state in found):
            print_message(printable(f"build them anew with: sdtrt engines build {options.bundle}"))
    return 1 if any(state.kind == "damaged" for _, state in found) else 0


def engines_clean(options: argparse.Namespace) -> int:
    bundle = find_bundle(options.bundle)
    try:
        index = EngineIndex.of(bundle)
    except SdtrtError:
        index = EngineIndex(engines_folder(bundle))  # the index itself is what is broken, so it is written anew
    unwanted = [p for p, state in engine_states(bundle, index) if options.all or state.kind in {"stale", "damaged"}]
    if index.folder.is_dir():
        index = delete_engines(index, unwanted)
    known = {plan.file for plan in index.engines}
    strays = [path for path in index.folder.glob("*.engine") if path.name not in known and path.is_file()]
    for path in strays:
        path.unlink()
    if options.json:
        print_json([plan.file for plan in unwanted] + [path.name for path in strays])
    else:
        gone = f"removed {counted(len(unwanted), 'engine')} and {counted(len(strays), 'file')} that no index lists"
        print_result(f"{gone}; engines left: {len(index.engines)}")
    return 0


ROW = "{:8} {:9} {:30} {:>10}  {:12}  {}"


def print_head() -> None:
    print_result(ROW.format("engine", "target", "shapes", "size", "key", "state"))


def columns(plan: EngineRecord) -> tuple[str, ...]:
    key = plan.key
    return key.network, key.target, key.shapes, f"{plan.nbytes / 2**20:.1f} MiB", plan.file.split("-")[-1][:12]
