// Response.
(function (internal) {
  'use strict';
  const { p, h, bodies, headers, shape } = internal;
  const { RangeError, TypeError, jsonStringify, regexpExec, trunc } = p;
  const { finish, wrongInit, isObject } = h;
  const key = {};
  const STATE = { __proto__: null, kind: key, status: 200, statusText: '', headers: undefined, headersObject: undefined, redirected: false, url: '', webSocket: null, cf: undefined, type: 'default', body: undefined };
  const { is: isResponse, stateOf } = internal.bodyOwner(key);
  internal.isResponse = isResponse;
  const withoutBody = (status) => status === 101 || status === 204 || status === 205 || status === 304;
  const isRedirect = (status) => status === 301 || status === 302 || status === 303 || status === 307 || status === 308;

  class Response extends internal.Body {
    constructor(body = undefined, init = undefined) { super(bodies.key, body === key ? init : build(body, init)); }
    static error() {
      return new Response(key, { __proto__: STATE, status: 0, type: 'error', headers: headers.fresh(), body: bodies.nothing() });
    }
    static redirect(url, status = 302) {
      status = trunc(+status);
      if (!isRedirect(status)) throw new RangeError(`${status} is not a redirect status code. It must be one of: 301, 302, 303, 307, or 308.`);
      const location = internal.normal(`${url}`);
      if (location === null) throw new TypeError(`Unable to parse URL: ${url}`);
      return new Response(key, { __proto__: STATE, status, headers: headers.from(['location'], [location], true), body: bodies.nothing() });
    }
    static json(data, init = undefined) {
      // What has no JSON is the text `undefined`, as in the reference.
      const state = build(`${jsonStringify(data)}`, init);
      const wanted = init?.headers;
      if (wanted === undefined || wanted === null || !headers.has(headers.of(wanted), 'content-type')) headers.set(state.headers, 'content-type', 'application/json');
      return new Response(key, state);
    }
    clone() {
      const state = stateOf(this);
      if (state.webSocket !== null) throw new TypeError('Cannot clone a response to a WebSocket handshake.');
      const body = bodies.clone(state.body);
      return new Response(key, { __proto__: STATE, ...state, body, headers: headers.copy(state.headers), headersObject: undefined });
    }
    get status() { return stateOf(this).status; }
    get statusText() { return stateOf(this).statusText; }
    get headers() { return headers.object(stateOf(this)); }
    get ok() { const { status } = stateOf(this); return status >= 200 && status < 300; }
    get redirected() { return stateOf(this).redirected; }
    get url() { return stateOf(this).url; }
    get webSocket() { return stateOf(this).webSocket; }
    get cf() { return stateOf(this).cf; }
    get type() { return stateOf(this).type; }
  }
  finish(Response, 'Response');
  shape(Response, 'Response', ['status', 'statusText', 'headers', 'ok', 'redirected', 'url', 'webSocket', 'cf', 'type', 'body', 'bodyUsed']);

  function build(value, init) {
    const state = init === undefined || init === null ? { __proto__: STATE, headers: headers.fresh(), body: undefined } : settings(init);
    state.body = bodies.nothing();
    if (value === undefined || value === null) return state;
    const { body, type } = bodies.extract(value);
    if (withoutBody(state.status)) {
      // Nothing, given as a string or view, is let pass as the reference does.
      if (body.bytes !== undefined && p.typedLength(body.bytes) === 0) return state;
      throw new TypeError('Response with null body status (101, 204, 205, or 304) cannot have a body.');
    }
    state.body = body;
    if (type !== null && !headers.has(state.headers, 'content-type')) headers.set(state.headers, 'content-type', type);
    return state;
  }
  function settings(init) {
    if (!isObject(init)) throw wrongInit('Response', 2, 'InitializerDict or Response');
    const { status: given = 200, statusText = '', headers: wanted, webSocket = null, cf } = init;
    const status = trunc(+given);
    if (webSocket !== null && !internal.isWebSocket(webSocket)) throw new TypeError("Incorrect type for the 'webSocket' field on 'InitializerDict': the provided value is not of type 'WebSocket'.");
    if (webSocket !== null && status !== 101) throw new RangeError('Responses with a WebSocket must have status code 101.');
    if (!(status >= 200 && status <= 599) && !(status === 101 && webSocket !== null)) throw new RangeError('Responses may only be constructed with status codes in the range 200 to 599, inclusive.');
    const reason = `${statusText}`;
    if (reason !== '' && regexpExec(/^[\t\x20-\x7e\x80-\uffff]*$/, reason) === null) throw new TypeError('Invalid statusText');
    return { __proto__: STATE, status, statusText: reason, headers: wanted === undefined || wanted === null ? headers.fresh() : headers.of(wanted), webSocket, cf };
  }

  internal.responseState = stateOf;
  internal.isRedirect = isRedirect;
  // A response of the host's: { status, statusText, names, values, body, webSocket }.
  internal.arrived = (head, url, redirected) => {
    const state = {
      __proto__: STATE, status: head.status, statusText: head.statusText ?? '', headers: headers.from(head.names, head.values, true), url, redirected, cf: head.cf, body: undefined,
    };
    if (head.webSocket !== null && head.webSocket !== undefined) {
      const protocol = headers.get(state.headers, 'sec-websocket-protocol') ?? '';
      state.webSocket = internal.hostSocket(head.webSocket, protocol);
    } else if (!withoutBody(head.status)) state.body = bodies.receive(head.body);
    else if (head.body?.host !== undefined) internal.host.bodyCancel(head.body.host, '');
    state.body ??= bodies.nothing();
    return new Response(key, state);
  };
  // For the host: { status, statusText, names, values, body, webSocket }; the response is used then.
  internal.leaving = (response) => {
    const state = stateOf(response);
    const webSocket = state.webSocket === null ? null : internal.sendSocket(state.webSocket);
    return { __proto__: null, status: state.status, statusText: state.statusText, names: state.headers.names, values: state.headers.values, body: bodies.send(state.body), webSocket };
  };
});
