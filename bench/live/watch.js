// Watches the page of `nldf serve --demo`: it says a sound, or hears it by its microphone, and what it shows and
// plays is noted with its time. `told`: {way, side, box: [x, y, w, h], sound: base64 of a wav file, seconds,
// fake: whether the browser's microphone has to be given the sound}.
async (told) => {
  const find = (id) => document.getElementById(id);
  const until = async (good, seconds = 30) => {
    for (const end = performance.now() + 1000 * seconds; !good();) {
      if (performance.now() > end) throw new Error(`not within ${seconds} s: ${good}`);
      await new Promise((done) => setTimeout(done, 20));
    }
  };
  const packed = (bytes) => {
    let text = "";
    for (let k = 0; k < bytes.length; k += 8192) text += String.fromCharCode(...bytes.subarray(k, k + 8192));
    return btoa(text);
  };
  const { nldf } = window;
  const wav = Uint8Array.from(atob(told.sound), (c) => c.charCodeAt(0));
  if (told.fake) {
    navigator.mediaDevices.getUserMedia = async () => {
      const context = new AudioContext({ sampleRate: 48000 });
      await context.resume();
      const out = context.createMediaStreamDestination();
      const source = context.createBufferSource();
      source.buffer = await context.decodeAudioData(wav.slice().buffer);
      source.connect(out);
      source.start();
      return out.stream;
    };
  }
  const [x, y, width, height] = told.box;
  const small = new OffscreenCanvas(told.side, told.side);
  const drawing = small.getContext("2d", { willReadFrequently: true });
  const note = (context, source) => {
    const now = performance.now();
    const clock = context.currentTime;
    const out = context.getOutputTimestamp();
    drawing.drawImage(source, 0, 0, told.side, told.side);
    const { data } = drawing.getImageData(x, y, width, height);
    const grey = new Uint8Array(width * height);
    for (let k = 0; k < grey.length; k += 1) {
      grey[k] = 0.299 * data[4 * k] + 0.587 * data[4 * k + 1] + 0.114 * data[4 * k + 2];
    }
    return { now, clock, late: context.outputLatency || 0, out: [out.contextTime, out.performanceTime], grey };
  };

  // By the browser's own account of what it plays: milliseconds by which pictures are ahead of the sound.
  const account = async (connection, on, ahead) => {
    while (on()) {
      const playing = {};
      (await connection.getStats()).forEach((item) => {
        if (item.type === "inbound-rtp") playing[item.kind] = item.estimatedPlayoutTimestamp;
      });
      if (playing.video && playing.audio) ahead.push(playing.video - playing.audio);
      await new Promise((done) => setTimeout(done, 200));
    }
  };

  // What is shown and played while `told.seconds` pass; with a microphone, what that says as well.
  const other = new AudioContext({ sampleRate: 48000 });
  const watch = async () => {
    const { rtc, player, microphone } = nldf;
    const context = nldf.context || other;
    await context.resume();
    await context.audioWorklet.addModule("/static/capture.js");
    const pieces = { mic: [], ears: [] };
    const nodes = [];
    const tap = (name, source) => {
      const node = new AudioWorkletNode(context, "capture", { numberOfOutputs: 0 });
      node.port.onmessage = (event) => pieces[name].push(event.data);
      source.connect(node);
      nodes.push([source, node]);
    };
    if (microphone) tap("mic", context.createMediaStreamSource(microphone));
    const pictures = [];
    const ahead = [];
    let on = true;
    if (rtc) {
      const { video } = rtc;
      await until(() => video.srcObject && video.srcObject.getAudioTracks().length && video.videoWidth);
      tap("ears", context.createMediaStreamSource(new MediaStream(video.srcObject.getAudioTracks())));
      const each = () => {
        if (!on) return;
        pictures.push(note(context, video));
        video.requestVideoFrameCallback(each);
      };
      video.requestVideoFrameCallback(each);
      account(rtc.connection, () => on, ahead);
    } else {
      tap("ears", player.gain);
      player.onpicture = () => pictures.push(note(context, player.canvas));
    }
    await new Promise((done) => setTimeout(done, 1000 * told.seconds));
    on = false;
    if (player) player.onpicture = null;
    nodes.forEach(([source, node]) => source.disconnect(node));
    const sound = (parts) => {
      const pcm = new Int16Array(parts.reduce((sum, part) => sum + part.samples.length, 0));
      let place = 0;
      for (const { samples } of parts) {
        pcm.set(samples, place);
        place += samples.length;
      }
      return { samples: packed(new Uint8Array(pcm.buffer)), times: parts.map((part) => part.time) };
    };
    return {
      rate: context.sampleRate, mic: sound(pieces.mic), ears: sound(pieces.ears),
      pictures: pictures.map((item) => ({ ...item, grey: packed(item.grey) })),
      ahead, counted: player ? { ...player.statistics } : null,
    };
  };

  await until(() => Object.keys(nldf.avatars).length);
  find("poses").value = "still";
  find("way").value = told.way;
  find("start").click();
  await until(() => nldf.state === "on");
  await other.resume();
  nldf.watched = {};
  nldf.watching = (async () => {
    const said = watch();
    await say(new Blob([wav])); // the page's own function, as its buttons call it
    nldf.watched.said = await said;
    find("microphone").click();
    await until(() => nldf.state === "on" && nldf.microphone);
    nldf.watched.spoken = await watch();
    nldf.watched.session = nldf.session;
    return true;
  })();
  return true;
}
