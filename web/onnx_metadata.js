// Reads the metadata of an .onnx file, which ONNX Runtime for browsers does not return.
//
// An .onnx file is a protobuf message ModelProto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto); field 14,
// metadata_props, has entries with key (field 1) and value (field 2).

const METADATA_PROPS = 14;
const VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5; // wire types

/**
 * Return the metadata as an object {key: text}.
 * @param {Uint8Array} bytes content of the file
 * @throws {Error} the bytes are not a protobuf message
 */
export function readMetadata(bytes) {
  const metadata = {};
  for (const [field, value] of fields(bytes)) {
    if (field !== METADATA_PROPS || !(value instanceof Uint8Array)) continue;
    const texts = {};
    for (const [number, text] of fields(value)) texts[number] = new TextDecoder().decode(text);
    metadata[texts[1]] = texts[2];
  }
  return metadata;
}

/** Yield [field number, value] of a message; values are numbers or byte arrays. */
function* fields(bytes) {
  let position = 0;
  const varint = () => {
    let value = 0, factor = 1;
    for (;;) {
      if (position >= bytes.length) throw new Error("the file ends too early");
      const byte = bytes[position++];
      value += (byte & 127) * factor; // not shifted: numbers may have more than 32 bits
      if (byte < 128) return value;
      factor *= 128;
    }
  };
  const take = (count) => {
    if (position + count > bytes.length) throw new Error("the file ends too early");
    position += count;
    return bytes.subarray(position - count, position);
  };
  while (position < bytes.length) {
    const tag = varint();
    const field = Math.floor(tag / 8);
    const type = tag % 8;
    if (type === VARINT) yield [field, varint()];
    else if (type === FIXED64) yield [field, take(8)];
    else if (type === BYTES) yield [field, take(varint())];
    else if (type === FIXED32) yield [field, take(4)];
    else throw new Error(`unknown type ${type} of field ${field}`);
  }
}
