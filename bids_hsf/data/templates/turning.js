"use strict";
// The viewer and the images lie in the page, compressed.
const at = (id) => document.getElementById(id);
const RENDER = 4;
const TURN = 5; // degrees a key
const WHOLE = 2; // a plane of this depth cuts nothing off

const unpacked = (text) => {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip")));
};

async function addViewer() {
  const script = document.createElement("script");
  script.textContent = await unpacked(at("viewer").textContent).text();
  document.head.append(script);
}

async function addImages(view) {
  const images = JSON.parse(at("images").textContent);
  const looks = [["scan", "gray", 0, 255], ["labels", "gray", 0, 255], ["entropy", "hot", 12, 200]];
  for (const [name, colormap, low, high] of looks) {
    const buffer = await unpacked(images[name]).arrayBuffer();
    const image = await niivue.NVImage.new(buffer, `${name}.nii`, colormap, Number(at(name).value), null, low, high);
    if (name === "labels") image.setColormapLabel(images.colors);
    view.addVolume(image);
  }
}

function listen(view) {
  const show = () => {
    view.setSliceType(Number(at("view").value));
    const [azimuth, elevation] = at("side").value.split(",").map(Number);
    view.setClipPlane(at("side").value ? [Number(at("depth").value), azimuth, elevation] : [WHOLE, 0, 0]);
    // Planes show the scan as it is; turned, it would hide what lies in it.
    const share = Number(at("view").value) === RENDER ? Number(at("scan").value) : 1;
    [share, Number(at("labels").value), Number(at("entropy").value)].forEach((opacity, place) => view.setOpacity(place, opacity));
  };
  for (const id of ["view", "side", "depth", "scan", "labels", "entropy"]) at(id).addEventListener("input", show);
  const turns = { ArrowLeft: [-TURN, 0], ArrowRight: [TURN, 0], ArrowUp: [0, TURN], ArrowDown: [0, -TURN] };
  at("canvas").addEventListener("keydown", (event) => {
    const turn = turns[event.key];
    if (!turn || view.opts.sliceType !== RENDER) return;
    event.preventDefault();
    view.setRenderAzimuthElevation(view.scene.renderAzimuth + turn[0], view.scene.renderElevation + turn[1]);
  });
  show();
}

async function start() {
  await addViewer();
  const view = new niivue.Niivue({ backColor: [0, 0, 0, 1], isOrientCube: true, crosshairWidth: 0.2, show3Dcrosshair: false, dragAndDropEnabled: false, isNearestInterpolation: false, logLevel: "error" });
  await view.attachToCanvas(at("canvas"));
  await addImages(view);
  view.setRenderAzimuthElevation(160, 25);
  listen(view);
  at("said").textContent = "";
  document.documentElement.dataset.ready = "yes";
  return view;
}

if (document.createElement("canvas").getContext("webgl2")) {
  start().catch((error) => { at("said").textContent = `The viewer does not start: ${error.message}`; });
} else {
  at("said").textContent = "This browser cannot turn it: WebGL 2 is missing, or switched off.";
}
