"use strict";

const find = (id) => document.getElementById(id);
const token = new URLSearchParams(location.hash.slice(1)).get("token");
const SOUND_MS = 5000; // for the sound device to open
const SLIDERS = [
  // [name, part and field of the edit, lowest, highest, usual, what the avatar needs for it]
  ["turn", "head.yaw", -15, 15, 0], ["nod", "head.pitch", -10, 10, 0], ["tilt", "head.roll", -15, 15, 0],
  ["mouth moves", "mouth.gain", 0, 2, 1, "mouth"], ["smile", "mouth.sliders.smile", -3, 3, 0, "mouth"],
  ["jaw", "mouth.sliders.jaw", -3, 3, 0, "mouth"], ["eyes", "eyes.scale", 0, 1.5, 1],
  ["brows", "upper.brows", -3, 3, 0, "upper"], ["lively", "upper.scale", 0, 2, 1, "upper"],
];
const app = { state: "off", avatars: {}, inputs: new Map(), sent: "", log: { ended: [], interrupted: [] } };
window.nldf = app; // for those who look on, such as tests

async function api(method, path, body) {
  const raw = body instanceof Blob;
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  if (body !== undefined && !raw) headers["Content-Type"] = "application/json";
  const answer = await fetch(path, { method, headers, body: body === undefined || raw ? body : JSON.stringify(body) });
  const said = answer.status === 204 ? null : await answer.json();
  if (!answer.ok) throw new Error(said.problem);
  return said;
}

function complain(error) {
  find("problem").textContent = error ? error.message || String(error) : "";
  find("problem").hidden = !error;
}

function show(state, text) {
  app.state = state;
  find("state").textContent = text;
  const on = state === "on";
  find("start").hidden = state !== "off";
  for (const id of ["hello", "microphone", "file", "interrupt"]) find(id).disabled = !on;
  find("file-label").classList.toggle("off", !on);
}

// What is said.

function send(text) {
  if (app.socket && app.socket.readyState === WebSocket.OPEN) app.socket.send(JSON.stringify(text));
}

async function say(blob) {
  if (app.rtc) {
    await api("POST", `/sessions/${app.rtc.session.id}/say`, blob);
    return;
  }
  const sound = await app.context.decodeAudioData(await blob.arrayBuffer());
  const mono = new Float32Array(sound.length);
  for (let c = 0; c < sound.numberOfChannels; c += 1) {
    const channel = sound.getChannelData(c);
    for (let k = 0; k < mono.length; k += 1) mono[k] += channel[k] / sound.numberOfChannels;
  }
  const pcm = Int16Array.from(mono, (value) => 32767 * Math.max(-1, Math.min(1, value)));
  for (let first = 0; first < pcm.length; first += 1 << 18) app.socket.send(pcm.slice(first, first + (1 << 18)));
  send({ type: "finish" });
}

async function interrupt() {
  if (app.rtc) {
    await api("POST", `/sessions/${app.rtc.session.id}/interrupt`);
    return;
  }
  send({ type: "interrupt" });
  app.player.silence();
}

async function openMicrophone() {
  return navigator.mediaDevices.getUserMedia({ audio: { echoCancellation: true, noiseSuppression: true } });
}

async function toggleMicrophone() {
  const on = !app.microphone;
  if (!on) closeMicrophone();
  else app.microphone = await openMicrophone();
  find("microphone").setAttribute("aria-pressed", String(on));
  if (app.rtc) { // a track is part of the connection: it is made again
    await stop();
    await start();
  } else if (on) {
    await app.context.audioWorklet.addModule("/static/capture.js");
    app.source = app.context.createMediaStreamSource(app.microphone);
    app.capture = new AudioWorkletNode(app.context, "capture", { numberOfOutputs: 0 });
    app.capture.port.onmessage = (event) => {
      if (app.socket && app.socket.readyState === WebSocket.OPEN) app.socket.send(event.data.samples);
    };
    app.source.connect(app.capture);
  }
}

function closeMicrophone() {
  if (app.microphone) app.microphone.getTracks().forEach((track) => track.stop());
  if (app.source) app.source.disconnect();
  app.microphone = app.source = app.capture = null;
  find("microphone").setAttribute("aria-pressed", "false");
}

// The connection.

async function start() {
  complain(null);
  show("wait", "connecting ...");
  try {
    const way = find("way").value === "webrtc" ? startRtc : startSocket;
    await way({ avatar: find("avatar").value });
    show("on", "listening");
    app.sent = "";
    change();
  } catch (error) {
    complain(error);
    await stop();
  }
}

// The sound's clock; a browser without a sound device may wait for one for ever.
async function openSound() {
  app.context = new AudioContext();
  if (app.context.sampleRate > 48000 || app.context.sampleRate % 25) app.context = new AudioContext({ sampleRate: 48000 });
  const late = new Promise((_, failed) => {
    setTimeout(() => failed(new Error("this browser plays no sound: is there a sound device?")), SOUND_MS);
  });
  await Promise.race([app.context.resume(), late]);
}

async function startSocket(wish) {
  await openSound();
  const rate = app.context.sampleRate;
  const query = new URLSearchParams({ ...wish, rate, in_rate: rate, microphone: "true" });
  if (token) query.set("token", token);
  const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws?${query}`);
  socket.binaryType = "arraybuffer";
  app.player = new Player(app.context, find("picture"), rate);
  await new Promise((ready, failed) => {
    socket.onclose = (event) => failed(new Error(event.reason || "the server did not take the connection"));
    socket.onmessage = (event) => {
      if (event.data instanceof ArrayBuffer) {
        const tick = app.player.take(event.data);
        find("state").textContent = tick.flags & 1 ? "speaking" : "listening";
        return;
      }
      const said = JSON.parse(event.data);
      if (said.type === "ready") ready();
      else if (said.type === "pong") app.session = said.session;
      else if (said.type === "full") complain(`${said.refused.toFixed(1)} s of the sound did not fit in the queue`);
      else if (said.type === "error") complain(said.problem);
      else if (app.log[said.type]) app.log[said.type].push(said);
    };
  });
  app.socket = socket;
  socket.onclose = (event) => {
    if (app.socket === socket) {
      complain(`the connection was closed: ${event.reason || event.code}`);
      stop();
    }
  };
}

async function startRtc(wish) {
  find("picture").hidden = true;
  find("video").hidden = false;
  app.rtc = new Rtc(api, find("video"));
  app.session = await app.rtc.open(wish, app.microphone);
}

async function stop() {
  const { socket, player, rtc, context } = app;
  app.socket = app.player = app.rtc = app.context = null;
  if (socket) {
    closeMicrophone();
    socket.close();
  }
  if (player) player.close();
  if (rtc) rtc.close();
  if (context) await context.close();
  find("picture").hidden = false;
  find("video").hidden = true;
  show("off", "not connected");
}

// What is changed.

function edit() {
  const made = {};
  for (const [name, place, , , usual] of SLIDERS) {
    const input = app.inputs.get(name);
    if (!input || Number(input.value) === usual) continue;
    const keys = place.split(".");
    let part = made;
    for (const key of keys.slice(0, -1)) part = part[key] = part[key] || {};
    part[keys.at(-1)] = Number(input.value);
  }
  return made;
}

// Requests overtake each other: each waits for the one before it, and of those that wait the last one counts.
function put(what, value) {
  app.waiting = { ...app.waiting, [what]: value };
  app.puts = (app.puts || Promise.resolve()).then(() => {
    if (!app.rtc || !(what in app.waiting)) return null;
    const { [what]: last, ...others } = app.waiting;
    app.waiting = others;
    return api("PUT", `/sessions/${app.rtc.session.id}/${what}`, last);
  }).catch(complain);
}

// While a slider moves, what it says is sent at most once a frame.
function change() {
  app.later = app.later || setTimeout(() => {
    app.later = null;
    for (const [what, value] of [
      ["edit", edit()], ["background", find("background").value || null], ["poses", find("poses").value],
    ]) {
      const text = JSON.stringify(value);
      if (app.state !== "on" || (app.last && app.last[what] === text && app.sent)) continue;
      app.last = { ...app.last, [what]: text };
      if (app.rtc) put(what, value);
      else send({ type: what, value });
    }
    app.sent = "once";
  }, 40);
}

function sliders() {
  const needs = (app.avatars[find("avatar").value] || { edits: {} }).edits;
  const old = new Map([...app.inputs].map(([name, input]) => [name, input.value]));
  app.inputs.clear();
  find("sliders").replaceChildren(...SLIDERS.filter((item) => !item[5] || needs[item[5]]).map((item) => {
    const [name, , low, high, usual] = item;
    const row = document.createElement("div");
    const label = document.createElement("label");
    const input = document.createElement("input");
    const value = document.createElement("span");
    row.className = "setting";
    Object.assign(input, { type: "range", min: low, max: high, step: (high - low) / 60, id: `slider-${name}` });
    input.value = old.get(name) ?? usual;
    label.htmlFor = input.id;
    label.textContent = name;
    const write = () => { value.textContent = (Math.round(10 * input.value) / 10 || 0).toFixed(1); };
    input.oninput = () => { write(); change(); };
    write();
    row.append(label, input, value);
    app.inputs.set(name, input);
    return row;
  }));
}

function reset() {
  for (const [name, , , , usual] of SLIDERS) {
    const input = app.inputs.get(name);
    if (input) { input.value = usual; input.dispatchEvent(new Event("input")); }
  }
  find("background").value = "";
  find("poses").value = "track";
  change();
}

// What is counted.

function count() {
  const session = app.session || { counters: {} };
  const counters = session.counters;
  const player = app.player && app.player.statistics;
  const ms = (value) => (value == null ? "–" : `${(1000 * value).toFixed(0)} ms`);
  const rows = [];
  if (player) {
    const now = performance.now();
    const before = app.before || { shown: player.shown, now: now - 1000 };
    const rate = (1000 * (player.shown - before.shown)) / (now - before.now);
    app.before = { shown: player.shown, now };
    rows.push(["pictures a second", rate.toFixed(1)], ["waits to be said", `${player.queued.toFixed(1)} s`],
      ["came too late", `${player.late} of ${player.ticks}`]);
  }
  const latency = counters.latency || {};
  const work = counters.work || {};
  rows.push(["looks ahead", ms(session.latency)], ["beyond that (p50, p95)", `${ms(latency.p50)}, ${ms(latency.p95)}`],
    ["to render (p50, p95)", `${ms(work.p50)}, ${ms(work.p95)}`],
    ["pictures left out", `${counters.skipped ?? "–"} of ${counters.frames ?? "–"}`]);
  find("statistics").replaceChildren(...rows.flatMap(([name, value]) => {
    const term = document.createElement("dt");
    const said = document.createElement("dd");
    term.textContent = name;
    said.textContent = value;
    return [term, said];
  }));
}

setInterval(() => {
  if (app.state === "on") {
    send({ type: "ping" });
    if (app.rtc) api("GET", `/sessions/${app.rtc.session.id}`).then((said) => { app.session = said; }, complain);
  }
  count();
}, 1000);

const guarded = (work) => () => Promise.resolve(work()).catch(complain);
find("start").onclick = guarded(start);
find("hello").onclick = guarded(async () => say(await (await fetch("/static/hello.wav")).blob()));
find("microphone").onclick = guarded(toggleMicrophone);
find("interrupt").onclick = guarded(interrupt);
find("reset").onclick = reset;
find("file").onchange = guarded(async () => {
  const [file] = find("file").files;
  find("file").value = "";
  if (file) await say(file);
});
find("background").onchange = find("poses").onchange = change;
find("avatar").onchange = guarded(async () => { sliders(); if (app.state === "on") { await stop(); await start(); } });
find("way").onchange = guarded(async () => { if (app.state === "on") { await stop(); await start(); } });
api("GET", "/avatars").then((avatars) => {
  app.avatars = avatars;
  find("avatar").replaceChildren(...Object.keys(avatars).map((name) => new Option(name)));
  sliders();
}).catch(complain);
count();
