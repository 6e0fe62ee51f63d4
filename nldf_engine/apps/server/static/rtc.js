"use strict";

// A session carried by WebRTC: the browser plays it, and everything else goes by HTTP.
class Rtc {
  constructor(api, video) {
    this.api = api;
    this.video = video;
    this.connection = new RTCPeerConnection();
  }

  async open(wish, microphone) {
    this.session = await this.api("POST", "/sessions", { ...wish, video: "raw", rate: 48000, microphone: Boolean(microphone) });
    const stream = new MediaStream();
    this.connection.ontrack = (event) => {
      stream.addTrack(event.track);
      this.video.srcObject = stream;
    };
    this.connection.addTransceiver("video", { direction: "recvonly" });
    if (microphone) this.connection.addTrack(microphone.getAudioTracks()[0], microphone);
    else this.connection.addTransceiver("audio", { direction: "recvonly" });
    await this.connection.setLocalDescription(await this.connection.createOffer());
    await this.gathered();
    const answer = await this.api("POST", `/sessions/${this.session.id}/offer`, {
      type: "offer", sdp: this.connection.localDescription.sdp,
    });
    await this.connection.setRemoteDescription(answer);
    return this.session;
  }

  gathered() {
    if (this.connection.iceGatheringState === "complete") return Promise.resolve();
    return new Promise((done) => {
      setTimeout(done, 2000);
      this.connection.onicegatheringstatechange = () => {
        if (this.connection.iceGatheringState === "complete") done();
      };
    });
  }

  close() {
    this.connection.close();
    this.video.srcObject = null;
    if (this.session) this.api("DELETE", `/sessions/${this.session.id}`).catch(() => {});
  }
}
