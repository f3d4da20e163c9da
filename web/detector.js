// The detector: reads a model, prepares images, runs the network and decodes its outputs.
//
// The same steps as in utils/runtimes/onnx_runtime.py and utils/postprocess.py. The module onnxruntime-web is an
// argument, so that this file also runs outside a page.

import { readMetadata } from "./onnx_metadata.js";

const STRIDES = [16, 32];
const WEIGHTS = 2048; // sum of the two weights of an interpolation
const CHECKS = {
  names: (value) => Array.isArray(value) && value.length > 0 && value.every((name) => typeof name === "string"),
  width: (value) => Number.isInteger(value) && value > 0 && value <= 8192 && value % 32 === 0,
  height: (value) => Number.isInteger(value) && value > 0 && value <= 8192 && value % 32 === 0,
  anchors: (value) => Array.isArray(value) && value.length === 2 && value.flat(2).every((side) => side > 0),
  conf: (value) => value >= 0 && value <= 1,
  iou: (value) => value >= 0 && value <= 1,
  max_det: (value) => Number.isInteger(value) && value > 0,
};

/** A detection: corners in image pixels, score 0…1, class id. */
/** @typedef {{x1: number, y1: number, x2: number, y2: number, score: number, classId: number}} Detection */

export class Detector {
  /**
   * Load an .onnx file that pytorch2onnx.py wrote.
   * @param runtime the module onnxruntime-web
   * @param {Uint8Array} bytes content of the file
   * @param {string[]} providers execution providers of ONNX Runtime, in order of preference
   * @throws {Error} with a message for the user
   */
  static async load(runtime, bytes, providers = ["wasm"]) {
    const info = readInfo(bytes);
    let session;
    try {
      session = await runtime.InferenceSession.create(bytes, { executionProviders: providers });
    } catch (error) {
      throw new Error(`The runtime cannot load this model: ${error.message ?? error}`);
    }
    return new Detector(runtime, session, info);
  }

  constructor(runtime, session, info) {
    Object.assign(this, { runtime, session, info });
    this.pixels = new Float32Array(3 * info.height * info.width);
  }

  /**
   * Detect in an image.
   * @param {ImageData} image RGBA pixels
   * @param {number} conf detections have a higher score
   * @returns {Promise<{detections: Detection[], milliseconds: {prepare: number, network: number, select: number}}>}
   */
  async detect(image, conf = this.info.conf) {
    const { width, height, anchors, iou, max_det: maxDet } = this.info;
    const times = [performance.now()];
    resizeToPlanes(image, width, height, this.pixels);
    const input = new this.runtime.Tensor("float32", this.pixels, [1, 3, height, width]);
    times.push(performance.now());
    const outputs = await this.session.run({ [this.session.inputNames[0]]: input });
    times.push(performance.now());
    const scale = [image.width / width, image.height / height];
    const found = outputs.detections
      ? readDetections(outputs.detections.data, conf)
      : suppress(decode(STRIDES.map((stride) => outputs[`stride${stride}`]), anchors, conf), iou);
    const detections = found.slice(0, maxDet).map((box) => toImage(box, scale, image)).filter((box) => box !== null);
    times.push(performance.now());
    const [prepare, network, select] = times.slice(1).map((time, index) => time - times[index]);
    return { detections, milliseconds: { prepare, network, select } };
  }
}

/** Read and check the description of a model from its metadata. */
function readInfo(bytes) {
  let metadata;
  try {
    metadata = readMetadata(bytes);
  } catch (error) {
    throw new Error(`This is not an .onnx file: ${error.message}.`);
  }
  if (!("anchors" in metadata)) {
    throw new Error("This file has no description of a detector. Choose an .onnx file that pytorch2onnx.py wrote.");
  }
  const info = {};
  for (const [key, check] of Object.entries(CHECKS)) {
    try {
      info[key] = JSON.parse(metadata[key]);
    } catch {
      throw new Error(`The description of this model has no valid entry "${key}".`);
    }
    if (!check(info[key])) throw new Error(`The description of this model has a wrong entry "${key}": ${metadata[key]}`);
  }
  return info;
}

/**
 * Resize an image without keeping its aspect ratio, and convert it to planes: blue, green, red, 0…1.
 *
 * Bilinear in the integer arithmetic of cv2.resize, as in training: the weights are multiples of 1/2048.
 */
function resizeToPlanes(image, width, height, planes) {
  const { data } = image;
  const columns = positions(width, image.width, 4);
  const rows = positions(height, image.height, 4 * image.width);
  const area = width * height;
  let target = 0;
  for (let y = 0; y < height; y++) {
    const top = rows.first[y], bottom = rows.second[y], down = rows.share[y], up = WEIGHTS - down;
    for (let x = 0; x < width; x++, target++) {
      const left = columns.first[x], right = columns.second[x], across = columns.share[x], rest = WEIGHTS - across;
      for (let channel = 0; channel < 3; channel++) {
        const a = data[top + left + channel], b = data[top + right + channel];
        const c = data[bottom + left + channel], d = data[bottom + right + channel];
        const upper = (up * ((a * rest + b * across) >> 4)) >> 16;
        const lower = (down * ((c * rest + d * across) >> 4)) >> 16;
        planes[(2 - channel) * area + target] = ((upper + lower + 2) >> 2) / 255;
      }
    }
  }
}

/** Return, per output pixel along one axis, where the two source pixels are, and the share of the second one. */
function positions(size, sourceSize, step) {
  const first = new Uint32Array(size), second = new Uint32Array(size), share = new Uint32Array(size);
  for (let index = 0; index < size; index++) {
    const position = Math.min(Math.max(((index + 0.5) * sourceSize) / size - 0.5, 0), sourceSize - 1);
    const low = Math.floor(position);
    first[index] = low * step;
    second[index] = Math.min(low + 1, sourceSize - 1) * step;
    share[index] = Math.round((position - low) * WEIGHTS);
  }
  return { first, second, share };
}

/** Decode the outputs of both scales: detections above `conf`, in input pixels. */
function decode(outputs, anchors, conf) {
  const found = [];
  outputs.forEach((output, scale) => {
    const [, rows, columns, values] = output.dims;
    const { data } = output;
    const count = anchors[scale].length;
    for (let cell = 0; cell < rows * columns; cell++) {
      const start = cell * values;
      const firstClass = start + 5 * count;
      let classId = -1; // not searched yet: most cells do not need it
      for (let anchor = 0; anchor < count; anchor++) {
        const objectness = data[start + 4 * count + anchor];
        if (objectness <= conf) continue; // a score is objectness times a probability
        if (classId < 0) classId = largest(data, firstClass, start + values) - firstClass;
        const score = objectness * data[firstClass + classId];
        if (score <= conf) continue;
        const [tx, ty, tw, th] = data.subarray(start + 4 * anchor, start + 4 * anchor + 4);
        const stride = STRIDES[scale];
        const x = (2 * tx - 0.5 + (cell % columns)) * stride;
        const y = (2 * ty - 0.5 + Math.floor(cell / columns)) * stride;
        const halfWidth = (2 * tw * tw) * anchors[scale][anchor][0];
        const halfHeight = (2 * th * th) * anchors[scale][anchor][1];
        found.push({ x1: x - halfWidth, y1: y - halfHeight, x2: x + halfWidth, y2: y + halfHeight, score, classId });
      }
    }
  });
  return found;
}

function largest(data, start, end) {
  let best = start;
  for (let index = start + 1; index < end; index++) if (data[index] > data[best]) best = index;
  return best;
}

/** Read the output [n, 6] of a model that includes decoding and NMS. */
function readDetections(data, conf) {
  const found = [];
  for (let start = 0; start < data.length; start += 6) {
    const [x1, y1, x2, y2, score, classId] = data.subarray(start, start + 6);
    if (score > conf) found.push({ x1, y1, x2, y2, score, classId });
  }
  return found;
}

/** Non-maximum suppression within each class; returns the kept detections, best first. */
function suppress(found, iou) {
  const kept = [];
  for (const box of [...found].sort((a, b) => b.score - a.score)) {
    if (!kept.some((other) => other.classId === box.classId && overlap(other, box) > iou)) kept.push(box);
  }
  return kept;
}

function overlap(a, b) {
  const width = Math.min(a.x2, b.x2) - Math.max(a.x1, b.x1);
  const height = Math.min(a.y2, b.y2) - Math.max(a.y1, b.y1);
  if (width <= 0 || height <= 0) return 0;
  const area = (box) => (box.x2 - box.x1) * (box.y2 - box.y1);
  return (width * height) / (area(a) + area(b) - width * height);
}

/** Scale a detection to the image and clip it; null if nothing of it is inside. */
function toImage(box, [scaleX, scaleY], image) {
  const clip = (value, limit) => Math.min(Math.max(value, 0), limit);
  const moved = { ...box, x1: clip(box.x1 * scaleX, image.width), x2: clip(box.x2 * scaleX, image.width) };
  Object.assign(moved, { y1: clip(box.y1 * scaleY, image.height), y2: clip(box.y2 * scaleY, image.height) });
  return moved.x2 > moved.x1 && moved.y2 > moved.y1 ? moved : null;
}
