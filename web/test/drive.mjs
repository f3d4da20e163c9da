// Drives the page in headless Chromium and prints what it shows as JSON. See tests/web/test_page.py.
//
//     node web/test/drive.mjs CHROMIUM URL VIDEO WRONG_MODEL MODEL,… IMAGE…

import puppeteer from "puppeteer-core";

const [executablePath, url, video, wrongModel, otherModels, ...images] = process.argv.slice(2);
const browser = await puppeteer.launch({
  executablePath,
  args: ["--no-sandbox", "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream",
    `--use-file-for-fake-video-capture=${video}`],
});
const result = { errors: [], requests: [] };
try {
  const page = await browser.newPage();
  await page.setViewport({ width: 390, height: 844, isMobile: true }); // a phone
  page.on("pageerror", (error) => result.errors.push(String(error)));
  page.on("request", (request) => result.requests.push(request.url()));
  await page.goto(url);
  await ready(page);
  result.isolated = await page.evaluate(() => window.crossOriginIsolated);
  result.runtime = await text(page, "#runtime-name");
  result.firstLoad = await page.evaluate(() => performance.getEntriesByType("resource")
    .reduce((sum, entry) => sum + entry.decodedBodySize, 0));
  result.images = [];
  for (const path of images) {
    result.images.push(await detect(page, path));
    if (process.env.SCREENSHOT && path === images[0]) {
      await page.screenshot({ path: process.env.SCREENSHOT, fullPage: true });
    }
  }
  result.overflows = await page.evaluate(() => document.documentElement.scrollWidth > innerWidth);

  await slide(page, 0.9);
  result.strict = await page.evaluate(() => window.lastDetections.map((found) => found.score));
  await upload(page, "#model", wrongModel);
  await page.waitForSelector("#message.error");
  result.wrongModel = await text(page, "#message");
  result.afterWrongModel = await detect(page, images[0]);
  result.otherModels = [];
  for (const model of otherModels.split(",")) {
    await upload(page, "#model", model);
    await page.waitForFunction((name) => document.querySelector("#model-name").textContent.startsWith(name), {},
      model.split("/").pop());
    result.otherModels.push(await detect(page, images[0]));
  }

  await page.evaluate(() => {
    const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
    window.streams = [];
    navigator.mediaDevices.getUserMedia = async (wanted) => {
      const stream = await open(wanted);
      window.streams.push(stream);
      return stream;
    };
    window.lastDetections = null;
    const button = document.querySelector("#camera");
    button.click();
    button.click(); // before the camera is open
  });
  await page.waitForFunction(() => window.lastDetections);
  result.camera = await page.evaluate(() => ({ width: document.querySelector("#view").width }));
  result.times = [];
  for (let count = 0; count < 20; count++) {
    await new Promise((resolve) => setTimeout(resolve, 100));
    result.times.push(await text(page, "#time"));
  }
  result.camerasAfterDoubleClick = await openCameras(page);
  await page.click("#camera");
  result.camerasAfterStop = await openCameras(page);

  await page.evaluate(() => {
    HTMLMediaElement.prototype.play = () => Promise.reject(new Error("cannot play"));
    document.querySelector("#camera").click();
  });
  await page.waitForFunction(() => document.querySelector("#message").textContent);
  result.cameraError = await text(page, "#message");
  result.camerasAfterError = await openCameras(page);
  result.opened = await page.evaluate(() => window.streams.length);

  await fetch(`${url}stop`); // the server ends
  await page.goto(url);
  await ready(page);
  result.offline = await detect(page, images[0]);
} finally {
  await browser.close();
}
console.log(JSON.stringify(result));

function openCameras(page) {
  return page.evaluate(() => window.streams.filter((stream) => stream.active).length);
}

async function ready(page) {
  await page.waitForSelector("html[data-ready=true]", { timeout: 120_000 });
}

async function text(page, selector) {
  return page.$eval(selector, (found) => found.textContent);
}

async function upload(page, selector, path) {
  const input = await page.$(selector);
  await input.uploadFile(path);
}

async function detect(page, path) {
  await page.evaluate(() => { window.lastDetections = null; });
  await upload(page, "#image", path);
  await page.waitForFunction(() => window.lastDetections);
  return page.evaluate(() => window.lastDetections);
}

async function slide(page, value) {
  await page.evaluate((wanted) => {
    window.lastDetections = null;
    const slider = document.querySelector("#conf");
    slider.value = wanted;
    slider.dispatchEvent(new Event("input"));
  }, value);
  await page.waitForFunction(() => window.lastDetections);
}
