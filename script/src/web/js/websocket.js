// WebSocketPair and WebSocket: two ends in one isolate, or one end whose other is the host's.
(function (internal) {
  'use strict';
  const { p, h, dom, host, natives, fire, shape } = internal;
  const { Error, RangeError, TypeError, arrayShift, defineProperty, symbolIterator, typedBuffer, typedLength } = p;
  const { bytesOf, finish, illegal, isObject, member } = h;
  const { CloseEvent, ErrorEvent, MessageEvent, EventTarget } = internal;
  const { Event } = internal.classes;
  const key = {};
  const [CONNECTING, OPEN, CLOSING, CLOSED] = [0, 1, 2, 3];
  const MAX_REASON = 123;
  // What a message that waits takes up besides its bytes.
  const ITEM_BYTES = 64;
  const CLOSED_EARLY = 'WebSocket is closed before the connection is established.';
  const LOST = 'WebSocket disconnected without sending Close frame.';

  // `peer` is the other end in this isolate, `id` the host's number of the other end; `arrived` waits for accept(), and has about
  // `waiting` bytes. `place` is where it was accepted: there its events happen, whoever sends.
  const newState = (object) => ({
    __proto__: null, object, peer: undefined, id: undefined, accepted: false, given: false, state: OPEN, arrived: [], waiting: 0, place: undefined, connecting: undefined, sentClose: false, gotClose: false, halfOpen: false, listening: false,
    binary: internal.since('2026-03-17') ? 'blob' : 'arraybuffer', url: null, protocol: '', extensions: '', running: false,
  });

  let stateOf;
  class WebSocket extends EventTarget {
    #state;
    static {
      stateOf = (socket) => { if (typeof socket !== 'object' || socket === null || !(#state in socket)) throw illegal(); return socket.#state; };
      internal.isWebSocket = (value) => typeof value === 'object' && value !== null && #state in value;
    }
    constructor(url, protocols = undefined) {
      super();
      this.#state = newState(this);
      if (url !== key) internal.connectSocket(this.#state, url, protocols);
    }
    get readyState() { return stateOf(this).state; }
    get bufferedAmount() {
      const w = stateOf(this);
      if (w.peer !== undefined) return w.peer.waiting;
      return w.id === undefined || !w.accepted ? 0 : host.wsUnsent(w.id);
    }
    get url() { return stateOf(this).url; }
    get protocol() { return stateOf(this).protocol; }
    get extensions() { return stateOf(this).extensions; }
    get binaryType() { return stateOf(this).binary; }
    set binaryType(value) { const w = stateOf(this); if (value === 'blob' || value === 'arraybuffer') w.binary = value; }
    accept(options = undefined) {
      const w = stateOf(this);
      if (w.accepted) return;
      if (w.given) throw new TypeError("Can't accept() WebSocket that was already used in a response.");
      internal.inEvent();
      w.place = host.wsPlace();
      w.accepted = true;
      w.halfOpen = !!member(options, 'allowHalfOpen');
      if (w.id !== undefined && w.peer === undefined && !w.listening) listen(w);
      run(w);
    }
    send(data) {
      const w = stateOf(this);
      if (arguments.length < 1) throw h.wrongArgument('WebSocket', 'send', 1, 'ArrayBuffer or ArrayBufferView or string');
      if (w.sentClose || w.state === CLOSED) throw new TypeError("Can't call WebSocket send() after close().");
      checkAccepted(w);
      const bytes = bytesOf(data);
      const item = { __proto__: null, data: bytes === null ? natives.usv(`${data}`) : natives.copy(bytes) };
      if (w.peer !== undefined) admit(w.peer, item);
      give(w, item);
    }
    close(code = undefined, reason = undefined) {
      const w = stateOf(this);
      if (code !== undefined) {
        code = p.trunc(+code);
        if (!(code >= 1000 && code < 5000) || code === 1004 || code === 1005 || code === 1006 || code === 1015) throw dom('InvalidAccessError', `Invalid WebSocket close code: ${code}.`);
      } else if (reason !== undefined) throw dom('InvalidAccessError', 'If you specify a WebSocket close reason, you must also specify a code.');
      reason = reason === undefined ? '' : natives.usv(`${reason}`);
      if (typedLength(natives.encode(reason)) > MAX_REASON) throw dom('SyntaxError', `WebSocket close reason must not be longer than ${MAX_REASON} bytes when UTF-8 encoded.`);
      if (w.sentClose || w.state === CLOSED) return;
      if (w.state === CONNECTING) return giveUp(w);
      checkAccepted(w);
      shut(w, code ?? 1005, reason);
    }
  }
  h.constants(WebSocket, { READY_STATE_CONNECTING: 0, CONNECTING: 0, READY_STATE_OPEN: 1, OPEN: 1, READY_STATE_CLOSING: 2, CLOSING: 2, READY_STATE_CLOSED: 3, CLOSED: 3 });
  finish(WebSocket, 'WebSocket');
  for (const type of ['open', 'message', 'close', 'error']) internal.handlerAttribute(WebSocket, type);
  shape(WebSocket, 'WebSocket', ['readyState', 'bufferedAmount', 'url', 'protocol', 'extensions', 'binaryType']);

  function checkAccepted(w) {
    if (w.state === CONNECTING) throw dom('InvalidStateError', 'The WebSocket is not open yet.');
    if (!w.accepted) throw new TypeError('You must call one of accept() or state.acceptWebSocket() on this WebSocket before sending messages.');
  }
  function shut(w, code, reason) {
    w.sentClose = true;
    w.state = w.gotClose ? CLOSED : CLOSING;
    give(w, { __proto__: null, close: code, reason });
  }
  // To the other end.
  function give(w, item) {
    if (w.peer !== undefined) return arrive(w.peer, item);
    if (w.id === undefined) return;
    if (item.close !== undefined) host.wsClose(w.id, item.close, item.reason);
    else host.wsSend(w.id, item.data);
  }
  // Messages between two ends in here have the bounds of all others.
  function admit(w, item) {
    const size = typeof item.data === 'string' ? textBytes(item.data) : typedLength(item.data);
    if (size > host.wsMessageBytes) throw new RangeError(`A message of a WebSocket has at most ${host.wsMessageBytes >> 10} KiB.`);
    if (w.waiting + size + ITEM_BYTES > host.wsUnsentBytes) throw new RangeError(`More than ${host.wsUnsentBytes >> 20} MiB of this WebSocket wait for its other side.`);
    item.size = size + ITEM_BYTES;
  }
  // Exact only where it may matter.
  const textBytes = (text) => (text.length * 3 <= host.wsMessageBytes ? text.length : typedLength(natives.encode(text)));
  function arrive(w, item) {
    w.arrived[w.arrived.length] = item;
    w.waiting += item.size ?? 0;
    if (w.accepted) wake(w);
  }
  // Has what waits be heard where the end was accepted. If that is over, nobody does: the other end has lost it.
  function wake(w) {
    const there = host.wsWake(w.place, w.running ? undefined : () => run(w));
    if (there === false) return orphaned(w);
    if (w.running) return;
    w.running = true;
    if (there !== true) h.microtask(() => run(w));
  }
  function orphaned(w) {
    const { peer } = w;
    drop(w);
    w.state = CLOSED;
    if (peer !== undefined && peer.state !== CLOSED && !peer.gotClose) { peer.sentClose = true; arrive(peer, { __proto__: null, lost: 'Network connection lost.' }); }
  }
  function drop(w) { w.arrived = []; w.waiting = 0; }
  function run(w) {
    w.running = true;
    while (w.accepted && w.arrived.length > 0) {
      const item = arrayShift(w.arrived);
      w.waiting -= item.size ?? 0;
      if (w.state === CLOSED && item.close === undefined) continue;
      try { deliver(w, item); } catch (error) { broken(w, error); }
    }
    w.running = false;
  }
  function deliver(w, item) {
    if (item.lost !== undefined) {
      if (w.state === CLOSED) return;
      w.state = CLOSED;
      drop(w);
      quietly(w, () => new ErrorEvent('error', { message: item.lost, error: new Error(item.lost) }));
      fire(w.object, new CloseEvent('close', { code: 1006, reason: LOST, wasClean: false }));
    } else if (item.close !== undefined) gotClose(w, item);
    else {
      const data = typeof item.data === 'string' ? item.data : w.binary === 'blob' ? internal.makeBlob(item.data, '') : typedBuffer(item.data);
      fire(w.object, new MessageEvent('message', { data }));
    }
  }
  function gotClose(w, item) {
    if (w.gotClose) return;
    w.gotClose = true;
    if (!w.sentClose && !w.halfOpen && internal.since('2026-04-07')) {
      w.sentClose = true;
      give(w, { __proto__: null, close: item.close, reason: item.reason });
    }
    w.state = w.sentClose ? CLOSED : CLOSING;
    fire(w.object, new CloseEvent('close', { code: item.close, reason: item.reason, wasClean: true }));
  }
  // A listener threw: the connection ends, and both ends are told.
  function broken(w, error) {
    internal.globals.reportError(error);
    if (w.state === CLOSED) return;
    w.state = CLOSED;
    drop(w);
    if (w.peer !== undefined) arrive(w.peer, { __proto__: null, lost: 'Network connection lost.' });
    else if (w.id !== undefined && !w.sentClose) host.wsClose(w.id, 1011, '');
    w.sentClose = true;
    quietly(w, () => new ErrorEvent('error', { message: `Uncaught ${isObject(error) ? internal.reasonText(error) : `${error}`}`, error }));
  }
  function quietly(w, make) { try { fire(w.object, make()); } catch (error) { internal.globals.reportError(error); } }

  function listen(w) {
    w.listening = true;
    host.wsOpen(w.id, {
      __proto__: null,
      message: (data) => now(w, { __proto__: null, data: typeof data === 'string' ? data : bytesOf(data) }),
      close: (code, reason, clean = true) => now(w, clean ? { __proto__: null, close: code, reason } : { __proto__: null, lost: 'Network connection lost.' }),
      error: (text) => now(w, { __proto__: null, lost: text }),
    }, w.place);
  }
  function now(w, item) {
    w.arrived[w.arrived.length] = item;
    if (w.accepted && !w.running) run(w);
  }

  // A connection that the host has: nobody has looked at it yet.
  internal.hostSocket = (id, protocol = '') => {
    const socket = new WebSocket(key);
    const w = stateOf(socket);
    w.id = id;
    w.protocol = protocol;
    return socket;
  };
  // It may have been accepted, or given away, since its response was made.
  const checkSocket = (socket) => {
    const w = stateOf(socket);
    if (w.accepted) throw new TypeError("Can't return WebSocket in a Response after calling accept().");
    if (w.given) throw new TypeError("Can't return WebSocket that was already used in a response.");
  };
  // A client: what `fetch` gives with an upgrade, accepted at once.
  internal.connectSocket = (w, url, protocols) => {
    const parts = internal.partsOf(`${url}`);
    if (parts === null) throw dom('SyntaxError', 'WebSocket Constructor: The url is invalid.');
    if (parts[2] !== 'ws:' && parts[2] !== 'wss:') throw dom('SyntaxError', 'WebSocket Constructor: The url scheme must be ws or wss.');
    if (parts[10] !== '') throw dom('SyntaxError', 'WebSocket Constructor: The url fragment must be empty.');
    const wanted = protocolsOf(protocols);
    w.url = parts[0];
    w.state = CONNECTING;
    w.place = host.wsPlace();
    w.connecting = new internal.classes.AbortController();
    const headers = wanted === '' ? { upgrade: 'websocket' } : { upgrade: 'websocket', 'sec-websocket-protocol': wanted };
    const target = parts[2] === 'ws:' ? `http:${p.stringSlice(parts[0], 3)}` : `https:${p.stringSlice(parts[0], 4)}`;
    p.then(internal.globals.fetch(target, { __proto__: null, headers, signal: w.connecting.signal }), (response) => opened(w, response), (error) => refused(w, internal.reasonText(error)));
  };
  function protocolsOf(protocols) {
    if (protocols === undefined) return '';
    const list = [];
    if (typeof protocols === 'string') list[0] = protocols;
    else for (const one of protocols) list[list.length] = `${one}`;
    for (let i = 0; i < list.length; i++)
      if (!natives.isToken(list[i]) || p.arrayIndexOf(list, list[i]) < i) throw dom('SyntaxError', 'WebSocket Constructor: The protocol is invalid.');
    return p.arrayJoin(list, ', ');
  }
  function opened(w, response) {
    const { webSocket } = internal.responseState(response);
    if (w.sentClose) {
      if (webSocket !== null) host.abandon({ __proto__: null, webSocket: stateOf(webSocket).id, body: null });
      return refused(w, CLOSED_EARLY);
    }
    if (webSocket === null) return refused(w, `Failed to establish the WebSocket connection: expected server to reply with HTTP status code 101 (switching protocols), but received ${internal.responseState(response).status} instead.`);
    const given = stateOf(webSocket);
    given.given = true;
    w.id = given.id;
    w.protocol = given.protocol;
    w.accepted = true;
    w.state = OPEN;
    listen(w);
    quietly(w, () => new Event('open'));
  }
  // Closed while it connects: as one that could not be.
  function giveUp(w) {
    w.sentClose = true;
    w.state = CLOSING;
    w.connecting.abort();
  }
  function refused(w, text) {
    if (w.sentClose) text = CLOSED_EARLY;
    w.state = CLOSED;
    quietly(w, () => new ErrorEvent('error', { message: text, error: new Error(text) }));
    quietly(w, () => new CloseEvent('close', { code: 1006, reason: 'Failed to establish websocket connection', wasClean: false }));
  }
  // Gives the end away: the host's number of what takes its place. One that is the host's already stays there.
  internal.sendSocket = (socket) => {
    checkSocket(socket);
    const w = stateOf(socket);
    w.given = true;
    if (w.id !== undefined) return w.id;
    const other = w.peer;
    const id = host.wsNew();
    try {
      // What comes waits there until it is accepted.
      if (other.accepted) { other.id = id; listen(other); }
    } catch (error) { host.abandon({ __proto__: null, webSocket: id, body: null }); throw error; }
    other.peer = w.peer = undefined;
    other.id = id;
    for (let i = 0; i < w.arrived.length; i++) give(other, w.arrived[i]);
    drop(w);
    return id;
  };

  class WebSocketPair {
    constructor() {
      host.wsPair();
      const a = new WebSocket(key);
      const b = new WebSocket(key);
      stateOf(a).peer = stateOf(b);
      stateOf(b).peer = stateOf(a);
      this[0] = a;
      this[1] = b;
    }
  }
  finish(WebSocketPair, 'WebSocketPair');
  defineProperty(WebSocketPair.prototype, symbolIterator, { value: function* () { yield this[0]; yield this[1]; }, writable: true, configurable: true });
  shape(WebSocketPair, 'WebSocketPair', []);
});
