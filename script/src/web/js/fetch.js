// fetch: over the host, following redirects here; and Fetcher, a destination of its own that is fetched from alike.
(function (internal) {
  'use strict';
  const { p, h, host, bodies, headers, readable } = internal;
  const { Error, TypeError, apply, stringIndexOf, stringSlice, stringStartsWith, then } = p;
  const { finish, illegal, rejected, resolved, isObject } = h;
  const { atob } = globalThis;
  const { Request } = internal.classes;
  const MOST_REDIRECTS = 20;

  // `fail` is told of what it is rejected with, once something was sent, and throws in its place.
  function start(destination, args, fail = undefined) {
    try {
      internal.inEvent();
      if (args.length < 1) throw h.wrongArgument('ServiceWorkerGlobalScope', 'fetch', 1, 'Request or string');
      // A request that comes as it is keeps its body until it is sent.
      const request = internal.isRequest(args[0]) && args[1] === undefined ? args[0] : new Request(args[0], args[1]);
      const state = internal.requestState(request);
      if (!stringStartsWith(state.url, 'http:') && !stringStartsWith(state.url, 'https:')) {
        const data = stringStartsWith(state.url, 'data:') ? fromData(state) : undefined;
        if (data === undefined) throw new TypeError(`Fetch API cannot load: ${state.url}`);
        return resolved(data);
      }
      const signal = internal.signalOf(state);
      if (signal !== undefined && signal.aborted) throw signal.reason;
      if (state.redirect !== 'follow') return once(destination, state, signal, fail);
      const answered = run(destination, state, signal);
      return fail === undefined ? answered : then(answered, undefined, fail);
    } catch (error) { return rejected(error); }
  }

  // What a `data:` URL holds, as a response; undefined without a comma.
  function fromData(state) {
    const url = withoutFragment(state.url);
    const comma = stringIndexOf(url, ',');
    if (comma < 0) return undefined;
    let type = p.stringTrim(stringSlice(url, 5, comma));
    let bytes = unescaped(url, comma + 1);
    const semicolon = p.stringLastIndexOf(type, ';');
    if (semicolon >= 0 && internal.natives.asciiLower(p.stringTrim(stringSlice(type, semicolon + 1))) === 'base64') {
      type = p.stringTrim(stringSlice(type, 0, semicolon));
      bytes = fromBase64(bytes);
    }
    if (stringStartsWith(type, ';')) type = `text/plain${type}`;
    const headers = [['content-type', internal.typeText(type) || 'text/plain;charset=US-ASCII']];
    return new internal.classes.Response(state.method === 'GET' ? bytes : null, { __proto__: null, headers });
  }
  const bytesFrom = (list) => { const bytes = new p.Uint8Array(list.length); for (let i = 0; i < list.length; i++) bytes[i] = list[i]; return bytes; };
  // The bytes from there on; what is escaped is one.
  function unescaped(text, from) {
    const list = [];
    for (let i = from; i < text.length; i++) {
      const escaped = text[i] === '%' && p.regexpExec(/^[0-9a-fA-F]{2}$/, stringSlice(text, i + 1, i + 3)) !== null;
      list[list.length] = escaped ? p.parseInt(stringSlice(text, i + 1, i + 3), 16) : p.stringCharCodeAt(text, i);
      if (escaped) i += 2;
    }
    return bytesFrom(list);
  }
  const isBase64 = (c) => (c >= 48 && c <= 57) || (c >= 65 && c <= 90) || (c >= 97 && c <= 122) || c === 43 || c === 47;
  // What is none of the alphabet is passed over, as the reference has it.
  function fromBase64(bytes) {
    const kept = [];
    for (let i = 0; i < bytes.length; i++) if (isBase64(bytes[i])) kept[kept.length] = bytes[i];
    const text = internal.natives.decode(bytesFrom(kept));
    const decoded = atob(text.length % 4 === 1 ? stringSlice(text, 0, -1) : text);
    const list = [];
    for (let i = 0; i < decoded.length; i++) list[i] = p.stringCharCodeAt(decoded, i);
    return bytesFrom(list);
  }

  // What is sent: this, and what `follow` makes of it.
  const callOf = (destination, { method, url, headers: { names, values } }, body) => ({ __proto__: null, destination, method, url: withoutFragment(url), names, values, body });
  // Whatever it is answered with is the answer.
  function once(destination, state, signal, fail) {
    const call = callOf(destination, state, bodies.send(state.body));
    if (signal === undefined) return then(send(call), (head) => finishCall(call, head, undefined, false), fail);
    const { answered, forget } = sendWith(call, signal);
    return then(answered, (head) => { forget(); return finishCall(call, head, signal, false); }, (error) => {
      forget();
      if (fail !== undefined) fail(error);
      throw error;
    });
  }
  async function run(destination, state, signal) {
    const bytes = state.body.bytes ?? state.body.stream?.bytes;
    const hasBody = !bodies.isNull(state.body);
    const call = callOf(destination, { method: state.method, url: state.url, headers: headers.copy(state.headers) }, bodies.send(state.body));
    const sent = { __proto__: null, url: state.url, bytes, hasBody };
    for (let redirects = 0; ; redirects++) {
      const head = await (signal === undefined ? send(call) : sendUntil(call, signal));
      const location = internal.isRedirect(head.status) ? find(head, 'location') : undefined;
      if (location === undefined) return finishCall(call, head, signal, redirects > 0);
      if (head.body?.host !== undefined) host.bodyCancel(head.body.host, '');
      if (redirects === MOST_REDIRECTS) throw new TypeError('Too many redirects.');
      follow(call, sent, head.status, location);
    }
  }
  const find = ({ names, values }, name) => { const at = p.arrayIndexOf(names, name); return at < 0 ? undefined : values[at]; };
  const send = (call) => ask(call).promise;
  // Until the signal aborts: that rejects it.
  function sendWith(call, signal) {
    const { op, promise } = ask(call);
    return { __proto__: null, answered: promise, forget: internal.onAbort(signal, (reason) => host.cancel(op, reason)) };
  }
  async function sendUntil(call, signal) {
    const { answered, forget } = sendWith(call, signal);
    try { return await answered; } finally { forget(); }
  }
  function ask(call) {
    if (isObject(call.destination) && call.destination.port !== undefined && stringStartsWith(call.url, 'https:'))
      throw new Error('Connecting to a container using HTTPS is not currently supported; use HTTP instead. TLS is unnecessary anyway, as the connection is already secure by default.');
    return host.fetch(call);
  }
  function follow(call, sent, status, location) {
    const next = internal.partsOf(location, sent.url);
    if (next === null) throw new TypeError(`Invalid URL: ${location}`);
    if (next[2] !== 'http:' && next[2] !== 'https:') throw new TypeError(`Fetch API cannot load: ${next[0]}`);
    const before = internal.partsOf(sent.url);
    const hash = stringIndexOf(next[0], '#') < 0 ? before[10] : '';
    if (before[1] !== next[1]) leaveOut(call, ['authorization', 'cookie']);
    sent.url = next[0] + hash;
    call.url = withoutFragment(sent.url);
    const becomesGet = status === 303 ? call.method !== 'GET' && call.method !== 'HEAD' : (status === 301 || status === 302) && call.method === 'POST';
    if (becomesGet) {
      call.method = 'GET';
      call.body = null;
      sent.hasBody = false;
      leaveOut(call, ['content-type', 'content-length', 'content-encoding', 'content-language', 'content-location']);
    } else if (sent.hasBody) {
      if (sent.bytes === undefined)
        throw new TypeError('A request with a one-time-use body (it was initialized from a stream, not a buffer) encountered a redirect requiring the body to be retransmitted. To avoid this error in the future, construct this request from a buffer-like body initializer.');
      call.body = bodies.send(bodies.record(sent.bytes, undefined));
    }
  }
  function leaveOut(call, left) {
    const names = [];
    const values = [];
    for (let i = 0; i < call.names.length; i++) {
      if (p.arrayIndexOf(left, call.names[i]) >= 0) continue;
      names[names.length] = call.names[i];
      values[values.length] = call.values[i];
    }
    call.names = names;
    call.values = values;
  }
  const withoutFragment = (url) => { const at = stringIndexOf(url, '#'); return at < 0 ? url : stringSlice(url, 0, at); };

  function finishCall(call, head, signal, redirected) {
    if (head.status === 101 && head.webSocket === null) {
      if (head.body?.host !== undefined) host.bodyCancel(head.body.host, '');
      throw new Error('The server switched to another protocol than WebSocket.');
    }
    const response = internal.arrived(head, call.url, redirected);
    const { stream } = internal.responseState(response).body;
    if (signal !== undefined && stream !== undefined && stream.host !== undefined) {
      const body = stream.host;
      const forget = internal.onAbort(signal, (reason) => {
        if (stream.state === 'readable' && stream.host === body) internal.failBytes(stream.controller, reason);
        host.bodyCancel(body.id, internal.reasonText(reason));
        body.ended?.reject(reason);
      });
      body.forget = forget;
    }
    return response;
  }

  // As `fetch`, to another destination.
  internal.fetchFrom = start;
  internal.globals.fetch = { fetch(input, init) { return start('outside', arguments); } }.fetch;

  let destinationOf;
  class Fetcher {
    #destination;
    static { destinationOf = (fetcher) => { if (typeof fetcher !== 'object' || fetcher === null || !(#destination in fetcher)) throw illegal(); return fetcher.#destination; }; }
    constructor(secret, destination) {
      if (secret !== internal) throw new TypeError('Illegal constructor');
      this.#destination = destination;
    }
    fetch(input, init = undefined) {
      try { return start(destinationOf(this), arguments); } catch (error) { return rejected(error); }
    }
    connect() { destinationOf(this); throw new Error('connect() is not supported by this version of Berth.'); }
  }
  finish(Fetcher, 'Fetcher');
  internal.shape(Fetcher, 'Fetcher', []);
  // What is fetched goes to the destination, which only the host understands.
  internal.dispatch.fetcher = (destination) => new Fetcher(internal, destination);
});
