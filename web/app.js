// The page: choose an image, a camera and a model; draw the detections and show how long they took.

import { Detector } from "./detector.js";

const DEFAULT_MODEL = "model.onnx";
const MODULES = { wasm: "./ort.wasm.bundle.min.mjs", webgpu: "./ort.webgpu.bundle.min.mjs" };
const element = (id) => document.getElementById(id);
const view = element("view");
const state = { detector: null, model: null, image: null, camera: null, busy: false, again: false };

async function start() {
  await isolate();
  if (!navigator.gpu) element("runtime").querySelector("[value=webgpu]").disabled = true;
  onFile("image", openImage);
  onFile("model", openModel);
  element("runtime").addEventListener("change", () => attempt(loadDetector));
  element("camera").addEventListener("click", () => attempt(state.camera ? stopCamera : startCamera));
  element("conf").addEventListener("input", () => { showConf(); attempt(detectImage); });
  const stage = element("stage");
  stage.addEventListener("dragover", (event) => { event.preventDefault(); stage.classList.add("drop"); });
  stage.addEventListener("dragleave", () => stage.classList.remove("drop"));
  stage.addEventListener("drop", (event) => {
    event.preventDefault();
    stage.classList.remove("drop");
    const [file] = event.dataTransfer.files;
    if (file) attempt(() => (file.name.endsWith(".onnx") ? openModel(file) : openImage(file)));
  });
  await attempt(async () => {
    const response = await fetch(DEFAULT_MODEL);
    if (!response.ok) throw new Error("There is no model yet. Choose an .onnx file that pytorch2onnx.py wrote.");
    state.model = { name: DEFAULT_MODEL, bytes: new Uint8Array(await response.arrayBuffer()) };
    await loadDetector();
  });
  document.documentElement.dataset.ready = "true";
}

/** Call `open` with each file that is chosen with an input. */
function onFile(id, open) {
  element(id).addEventListener("change", ({ target }) => {
    const [file] = target.files;
    target.value = ""; // without this, choosing the same file again causes no event
    if (file) attempt(() => open(file));
  });
}

/** Start the service worker, and reload the page once: the headers of the worker then give the page threads. */
async function isolate() {
  if (!("serviceWorker" in navigator)) return; // the page also works without it
  const registration = navigator.serviceWorker.register("sw.js").catch(() => null); // fails with some certificates
  if (window.crossOriginIsolated || sessionStorage.reloaded) return; // some browsers never isolate a page
  if (!(await registration)) return;
  await navigator.serviceWorker.ready;
  sessionStorage.reloaded = "true";
  location.reload();
  await new Promise(() => {});
}

/** Run an action; if it fails, show the error as text. */
async function attempt(action) {
  try {
    message("");
    await action();
  } catch (error) {
    message(error.message ?? String(error), true);
  }
}

function message(text, isError = false) {
  element("message").textContent = text;
  element("message").classList.toggle("error", isError);
}

async function openModel(file) {
  const before = state.model;
  state.model = { name: file.name, bytes: new Uint8Array(await file.arrayBuffer()) };
  try {
    await loadDetector();
  } catch (error) {
    state.model = before; // the detector in use is unchanged
    throw new Error(`${file.name}: ${error.message}`);
  }
}

async function loadDetector() {
  const kind = element("runtime").value;
  message("Loading the runtime and the model …");
  const runtime = await import(MODULES[kind]);
  runtime.env.wasm.numThreads = window.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency, 4) : 1;
  state.detector = await Detector.load(runtime, state.model.bytes, [kind]);
  const { info } = state.detector;
  const count = info.names.length === 1 ? "1 class" : `${info.names.length} classes`;
  const threads = runtime.env.wasm.numThreads;
  element("model-name").textContent = `${state.model.name}, ${info.width}×${info.height}, ${count}`;
  element("runtime-name").textContent = kind === "webgpu" ? "WebGPU"
    : `WebAssembly, ${threads === 1 ? "1 thread" : `${threads} threads`}`;
  element("conf").value = Math.max(info.conf, 0.01);
  showConf();
  message("");
  await detectImage();
}

function showConf() {
  element("conf-value").textContent = Number(element("conf").value).toFixed(2);
}

async function openImage(file) {
  if (state.camera) stopCamera();
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    throw new Error(`${file.name}: this browser cannot read it as an image.`);
  }
  state.image = pixelsOf(bitmap, bitmap.width, bitmap.height);
  await detectImage();
}

async function startCamera() {
  const video = Object.assign(document.createElement("video"), { muted: true, playsInline: true });
  element("camera").disabled = true; // a second click would open the camera twice
  try {
    video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    await video.play();
  } catch (error) {
    switchOff(video); // it is on if only playing failed
    throw new Error(`The camera cannot be used: ${error.message}`);
  } finally {
    element("camera").disabled = false;
  }
  state.camera = video;
  element("camera").textContent = "Stop camera";
  detectFrames(video);
}

function switchOff(video) {
  for (const track of video.srcObject?.getTracks() ?? []) track.stop();
}

function stopCamera() {
  switchOff(state.camera);
  state.camera = null;
  element("camera").textContent = "Start camera";
}

/** Detect in the frames of a camera until it is stopped. */
async function detectFrames(video) {
  while (state.camera === video) {
    state.image = pixelsOf(video, video.videoWidth, video.videoHeight);
    await attempt(detectImage);
    await new Promise(requestAnimationFrame);
  }
}

function pixelsOf(source, width, height) {
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(source, 0, 0);
  return context.getImageData(0, 0, width, height);
}

/** Detect in the current image. A call during a detection makes it run once more, with the newest image. */
async function detectImage() {
  if (!state.image || !state.detector) return;
  if (state.busy) {
    state.again = true;
    return;
  }
  state.busy = true;
  try {
    do {
      state.again = false;
      const { image, detector } = state;
      const { detections, milliseconds } = await detector.detect(image, Number(element("conf").value));
      draw(image, detections, detector.info.names);
      report(detections, milliseconds);
    } while (state.again);
  } finally {
    state.busy = false;
  }
}

function report(detections, { prepare, network, select }) {
  const total = prepare + network + select;
  element("time").textContent = `${total.toFixed(1)} ms (network ${network.toFixed(1)} ms)`;
  element("found").textContent = String(detections.length);
  window.lastDetections = detections; // for scripts and tests
}

function draw(image, detections, names) {
  element("hint").hidden = true;
  view.width = image.width;
  view.height = image.height;
  const context = view.getContext("2d");
  context.putImageData(image, 0, 0);
  const unit = Math.sqrt(image.width * image.height);
  context.lineWidth = Math.max(2, unit * 0.004);
  const size = Math.max(13, unit * 0.026);
  context.font = `${size}px system-ui, sans-serif`;
  context.textBaseline = "top";
  for (const { x1, y1, x2, y2, score, classId } of [...detections].reverse()) { // the best ones on top
    const color = `hsl(${(classId * 137.5) % 360} 85% 40%)`; // neighboring class ids get distant hues
    const text = `${names[classId] ?? classId} ${score.toFixed(2)}`;
    const width = context.measureText(text).width + size * 0.4;
    const left = Math.max(0, Math.min(x1, image.width - width));
    const top = y1 >= size * 1.3 ? y1 - size * 1.3 : y1;
    context.strokeStyle = context.fillStyle = color;
    context.strokeRect(x1, y1, x2 - x1, y2 - y1);
    context.fillRect(left, top, width, size * 1.3);
    context.fillStyle = "#fff";
    context.fillText(text, left + size * 0.2, top + size * 0.15);
  }
}

start();
