"""Which files an export makes, in which order, and what is said of each."""

from utils.errors import InputError

LEAST_OPSET, MOST_OPSET = 11, 20


def check_options(options):
    """pytorch2onnx.py's options must go together.

    Raises:
        InputError: they do not.
    """
    if not LEAST_OPSET <= options.opset <= MOST_OPSET:
        raise InputError(f"--opset: expected a version from {LEAST_OPSET} to {MOST_OPSET}, got {options.opset}")
    if options.end2end and options.dynamic_batch:
        raise InputError("--end2end and --dynamic-batch: a model that ends with detections takes one image at a time")
    if options.end2end and options.evaluate:
        raise InputError("--end2end and --evaluate: AP needs all scores, and the model has its thresholds inside")


def make_all(exporter, options):
    """Make, check and write every file that the options ask for, and say what was made.

    Returns:
        list of the paths of the models.
    """
    # Read before anything is made: what is wrong with a list shows at once.
    images = exporter.calibration(options.calib, options.calib_images) if options.int8 else None
    steps = []
    if options.end2end:
        steps.append(lambda: exporter.onnx_end_to_end(options.opset, options.dynamic_size, options.half))
    else:
        steps.append(lambda: exporter.onnx(options.opset, options.dynamic_batch, options.dynamic_size, options.half))
    if options.ncnn:
        steps.append(lambda: exporter.ncnn(half=options.ncnn == "fp16"))
    if options.int8:
        steps.append(lambda: exporter.onnx_int8(options.opset, options.dynamic_batch, options.dynamic_size, images))
        if options.ncnn:
            steps.append(lambda: exporter.ncnn_int8(images))
    models = []
    for step in steps:
        made = step()
        paths = exporter.place(made)
        models.append(paths[0])
        sizes = ", ".join(f"{path} ({path.stat().st_size:,} bytes)" for path in paths)
        print(f"wrote {made.precision} {sizes}")
        for note in made.notes:
            print(f"  {note}", flush=True)
    return models
