"""Convert an int8 .tflite file to C source for a microcontroller.

    python3 tools/tflite_to_c.py modelzoo/mask-160-int8.tflite --output firmware/yf_model

Writes NAME.h and NAME.c with the network as an array, and its class names, anchors and thresholds for
sample/microcontroller/decode.h.
"""

import argparse
from pathlib import Path

from utils import cli
from utils.errors import InputError
from utils.files import check_writable, write_text

COLUMNS = 20  # bytes per line of the array

HEADER = """/* {source}: {width}x{height} pixels, {classes} classes. Written by tools/tflite_to_c.py. */

#ifndef YF_MODEL_H
#define YF_MODEL_H

#include <stdint.h>

#include "decode.h"

#ifdef __cplusplus
extern "C" {{
#endif

extern const uint8_t yf_network[]; /* the .tflite file, aligned to 16 bytes */
extern const unsigned int yf_network_size;
extern const yf_model_info yf_model;

#ifdef __cplusplus
}}
#endif

#endif
"""

SOURCE = """/* Written by tools/tflite_to_c.py from {source}. */

#include "{header}"

const unsigned int yf_network_size = {size};

static const float anchors[] = {{{anchors}}};

static const char* const names[] = {{{names}}};

const yf_model_info yf_model = {{
    .width = {width},
    .height = {height},
    .classes = {classes},
    .anchor_num = {anchor_num},
    .anchors = anchors,
    .names = names,
    .conf = {conf}f,
    .iou = {iou}f,
}};

__attribute__((aligned(16))) const uint8_t yf_network[] = {{
{bytes}
}};
"""


def main(options: argparse.Namespace) -> int:
    from utils.runtimes.tflite_runtime import read_model

    path, output = Path(options.model), Path(options.output)
    if not output.name:
        raise InputError(f"--output {options.output}: expected the path of the files without suffix, got a folder")
    network, info = read_model(path)
    if info.precision != "INT8":
        raise InputError(f"{path}: expected an int8 model (pytorch2onnx.py --tflite int8), got {info.precision}")
    header, source = output.with_name(f"{output.name}.h"), output.with_name(f"{output.name}.c")
    check_writable(header)
    values = {
        "source": path.name,
        "header": header.name,
        "size": len(network),
        "width": info.width,
        "height": info.height,
        "classes": info.classes,
        "anchor_num": info.anchor_num,
        "anchors": ", ".join(f"{float(side)}f" for scale in info.anchors for anchor in scale for side in anchor),
        "names": ", ".join(map(c_string, info.class_names)),
        "conf": float(info.conf),
        "iou": float(info.iou),
        "bytes": "\n".join(
            "    " + ", ".join(map(str, network[start : start + COLUMNS])) + ","
            for start in range(0, len(network), COLUMNS)
        ),
    }
    write_text(header, HEADER.format(**values))
    write_text(source, SOURCE.format(**values))
    print(f"wrote {header}, {source}: {len(network):,} bytes, {info.width}x{info.height}, {info.classes} classes")
    return 0


def c_string(text: str) -> str:
    """Write a text as a C string literal in UTF-8."""
    special = b'"\\?'  # "??" could start a trigraph
    codes = (chr(byte) if 32 <= byte < 127 and byte not in special else f"\\{byte:03o}" for byte in text.encode())
    return f'"{"".join(codes)}"'


if __name__ == "__main__":
    parser = cli.parser(__doc__)
    parser.add_argument("model", metavar="MODEL.tflite", help="int8 model that pytorch2onnx.py --tflite int8 wrote")
    parser.add_argument("--output", default="yf_model", metavar="NAME", help="files to write, without suffix")
    cli.run(parser, main)
