// Hands a sound to the page: 16-bit PCM in pieces of about 20 ms, and the audio clock's time where each ends.
class Capture extends AudioWorkletProcessor {
  constructor() {
    super();
    this.piece = new Int16Array(Math.round(sampleRate / 50));
    this.count = 0;
  }

  process(inputs) {
    const samples = inputs[0][0];
    for (let k = 0; samples && k < samples.length; k += 1) {
      this.piece[this.count] = 32767 * Math.max(-1, Math.min(1, samples[k]));
      this.count += 1;
      if (this.count === this.piece.length) {
        this.port.postMessage({ samples: this.piece.slice(), time: currentTime + (k + 1) / sampleRate });
        this.count = 0;
      }
    }
    return true;
  }
}
registerProcessor("capture", Capture);
