"use strict";

// Plays the ticks of the websocket: each one's sound at its time of the audio clock, and its picture with it.
class Player {
  static HEADER = 32;
  static DELAY = 0.1; // seconds between a tick's arrival and its sound, so that a late one leaves no gap
  static FPS = 25;
  static LOOKED_BACK = 50; // ticks by whose least margin the player sees that it plays later than it must
  static QUIET = 300; // the loudest sample of a tick that may be played over the end of the one before

  constructor(context, canvas, rate) {
    this.context = context;
    this.canvas = canvas;
    this.drawing = canvas.getContext("2d");
    this.rate = rate;
    this.base = null; // time of the audio clock at which tick 0 is, or would be, played
    this.epoch = 0;
    this.margins = [];
    this.waiting = []; // pictures: {time, epoch, image}
    this.playing = new Set();
    this.decoded = Promise.resolve();
    this.stopped = false;
    this.statistics = { ticks: 0, pictures: 0, shown: 0, late: 0, queued: 0, work: 0, position: 0, margin: 0 };
    this.gain = context.createGain();
    this.gain.connect(context.destination);
    this.step = this.step.bind(this);
    requestAnimationFrame(this.step);
  }

  take(message) {
    const view = new DataView(message);
    const tick = {
      flags: view.getUint8(1), epoch: view.getUint16(2, true), number: view.getUint32(4, true),
      position: view.getFloat64(8, true), queued: view.getFloat32(16, true), work: view.getFloat32(20, true),
    };
    const picture = view.getUint32(24, true);
    const sound = view.getUint32(28, true);
    if (tick.epoch !== this.epoch) this.drop(tick.epoch);
    const samples = new Int16Array(message.slice(Player.HEADER + picture, Player.HEADER + picture + sound));
    if (samples.every((value) => Math.abs(value) < Player.QUIET)) this.catchUp();
    const moment = this.place(tick.number);
    this.play(samples, moment);
    if (picture) this.decode(message.slice(Player.HEADER, Player.HEADER + picture), moment, tick.epoch);
    const known = this.statistics;
    known.ticks += 1;
    known.queued = tick.queued;
    known.work = tick.work;
    known.position = tick.position;
    return tick;
  }

  // Behind a hiccup of the network all times have moved on; in a pause they move back, a tick's time at once.
  catchUp() {
    const spare = Math.min(...this.margins) - Player.DELAY;
    if (this.margins.length < Player.LOOKED_BACK || spare < 1 / Player.FPS) return;
    this.base -= 1 / Player.FPS;
    this.margins = this.margins.map((margin) => margin - 1 / Player.FPS);
  }

  // The audio clock's time of a tick; where it comes too late, all times move on.
  place(number) {
    const now = this.context.currentTime;
    if (this.base === null) this.base = now + Player.DELAY - number / Player.FPS;
    let moment = this.base + number / Player.FPS;
    this.statistics.margin = moment - now;
    this.margins.push(moment - now);
    if (this.margins.length > Player.LOOKED_BACK) this.margins.shift();
    if (moment < now + 0.005) {
      this.statistics.late += 1;
      this.base += now + Player.DELAY - moment;
      moment = now + Player.DELAY;
    } else if (moment > now + 1) { // the server's clock was moved
      this.base -= moment - now - Player.DELAY;
      moment = now + Player.DELAY;
    }
    return moment;
  }

  play(samples, moment) {
    if (!samples.length) return;
    const buffer = this.context.createBuffer(1, samples.length, this.rate);
    const channel = buffer.getChannelData(0);
    for (let k = 0; k < samples.length; k += 1) channel[k] = samples[k] / 32768;
    const source = this.context.createBufferSource();
    source.buffer = buffer;
    source.connect(this.gain);
    source.onended = () => this.playing.delete(source);
    source.start(moment);
    this.playing.add(source);
  }

  decode(content, moment, epoch) {
    const image = createImageBitmap(new Blob([content], { type: "image/jpeg" }));
    this.decoded = this.decoded.then(async () => {
      try {
        this.waiting.push({ time: moment, epoch, image: await image });
        this.statistics.pictures += 1;
      } catch (error) {
        console.warn("a picture could not be decoded", error);
      }
    });
  }

  // What was to be played of the epoch before an interruption is not.
  drop(epoch) {
    this.epoch = epoch;
    this.silence();
    this.waiting = this.waiting.filter((item) => item.epoch === epoch);
  }

  silence() {
    for (const source of this.playing) source.stop();
    this.playing.clear();
  }

  step() {
    if (this.stopped) return;
    const ears = this.context.currentTime - (this.context.outputLatency || 0);
    let due = null;
    while (this.waiting.length && this.waiting[0].time <= ears) {
      const item = this.waiting.shift();
      if (item.epoch === this.epoch) due = item;
    }
    if (due) {
      const { width, height } = due.image;
      if (this.canvas.width !== width || this.canvas.height !== height) Object.assign(this.canvas, { width, height });
      this.drawing.drawImage(due.image, 0, 0);
      this.statistics.shown += 1;
      if (this.onpicture) this.onpicture();
    }
    requestAnimationFrame(this.step);
  }

  close() {
    this.stopped = true;
    this.silence();
  }
}
