// pipeTo: by hand, or by joining a body of the host to what is read on the other side, so that no bytes cross.
(function (internal) {
  'use strict';
  const { p, h, host, readable, writable, closeBytes, failBytes } = internal;
  const { Promise, TypeError, then } = p;
  const { deferred, handled, noop, rejected, resolved, member } = h;

  internal.pipe = (source, destination, options) => {
    const prevent = { abort: !!member(options, 'preventAbort'), cancel: !!member(options, 'preventCancel'), close: !!member(options, 'preventClose') };
    const signal = member(options, 'signal');
    if (signal !== undefined && !internal.isSignal(signal))
      throw new TypeError("Incorrect type for the 'signal' field on 'StreamPipeOptions': the provided value is not of type 'AbortSignal'.");
    const sink = writable.stateOf(destination);
    if (canJoin(source, sink, prevent, signal)) return join(source, sink);
    return pump(source, sink, prevent, signal);
  };

  function canJoin(source, sink, prevent, signal) {
    const t = sink.identity;
    return source.host !== undefined && !source.disturbed && source.state === 'readable' && signal === undefined && !prevent.close && !prevent.abort && !prevent.cancel
      && t !== undefined && sink.state === 'writable' && !writable.closeQueued(sink) && t.written === 0 && sink.requests.length === 0 && sink.inFlight === undefined
      && t.readable.state === 'readable' && !t.readable.disturbed && !t.asked && (t.expected === undefined || t.expected === source.length);
  }

  // The readable side becomes the host's body; the source and the writable side only follow its end.
  function join(source, sink) {
    const t = sink.identity;
    const body = source.host;
    const reader = readable.acquire(source);
    const writer = writable.acquire(sink);
    source.disturbed = true;
    source.host = undefined;
    const before = body.ended;
    body.ended = deferred();
    handled(body.ended.promise);
    internal.becomeHost(t.readable, body);
    return then(body.ended.promise, () => {
      before?.resolve();
      // Where nobody has used either, nobody is to be told.
      if (source.unmade && sink.unmade) { source.state = sink.state = t.readable.state = 'closed'; source.reader = sink.writer = undefined; return; }
      closeBytes(source.controller);
      readable.release(reader);
      then(writable.closeSafely(sink), noop, noop);
      writable.release(writer);
    }, (error) => {
      before?.reject(error);
      failBytes(source.controller, error);
      readable.release(reader);
      then(writable.abort(sink, error), noop, noop);
      writable.release(writer);
      throw error;
    });
  }

  function pump(source, sink, prevent, signal) {
    const reader = readable.acquire(source);
    const writer = writable.acquire(sink);
    source.disturbed = true;
    const done = deferred();
    const pipe = { source, sink, reader, writer, done, stopping: false, last: resolved(), forget: noop };
    if (signal !== undefined) {
      const stop = (reason) => shutDown(pipe, () => {
        const aborted = !prevent.abort && sink.state === 'writable' ? writable.abort(sink, reason) : resolved();
        const cancelled = !prevent.cancel && source.state === 'readable' ? readable.cancel(source, reason) : resolved();
        return both(aborted, cancelled);
      }, true, reason, true);
      const state = internal.signalState(signal);
      if (state.aborted) { stop(state.reason); return done.promise; }
      pipe.forget = internal.onAbort(state, stop);
    }
    watch(pipe, prevent);
    step(pipe);
    return done.promise;
  }

  // When both have ended; of two errors, the first one's. No promise is returned into another, as that asks it for its `then`.
  function both(one, other) {
    const ended = deferred();
    handled(other);
    then(one, () => { then(other, () => ended.resolve(), ended.reject); }, (error) => {
      const fail = () => ended.reject(error);
      then(other, fail, fail);
    });
    return ended.promise;
  }

  function watch(pipe, prevent) {
    const { source, sink, reader, writer } = pipe;
    const failed = () => shutDown(pipe, prevent.abort ? undefined : () => writable.abort(sink, source.stored), true, source.stored);
    const broken = () => shutDown(pipe, prevent.cancel ? undefined : () => readable.cancel(source, sink.stored), true, sink.stored);
    const ended = () => shutDown(pipe, prevent.close ? undefined : () => writable.closeSafely(sink), false, undefined);
    const shut = () => {
      const error = new TypeError('This WritableStream has been closed.');
      shutDown(pipe, prevent.cancel ? undefined : () => readable.cancel(source, error), true, error);
    };
    if (source.state === 'errored') failed(); else then(reader.closed.promise, noop, failed);
    if (sink.state === 'errored' || sink.state === 'erroring') broken(); else then(writer.closed.promise, noop, broken);
    if (source.state === 'closed') ended(); else then(reader.closed.promise, ended, noop);
    if (writable.closeQueued(sink) || sink.state === 'closed') shut();
  }

  function step(pipe) {
    if (pipe.stopping) return;
    then(pipe.writer.ready.promise, () => {
      if (pipe.stopping) return;
      const atHand = internal.queueLength(pipe.source.controller.queue) > 0;
      readable.read(pipe.reader, {
        __proto__: null,
        chunk(chunk) {
          if (atHand) {
            pipe.last = writable.write(pipe.writer, chunk);
            handled(pipe.last);
            step(pipe);
            return;
          }
          // Whoever gives the chunk goes on before it is written.
          const written = deferred();
          pipe.last = written.promise;
          handled(pipe.last);
          h.microtask(() => writeOne(pipe, chunk, written));
        },
        close: noop,
        error: noop,
      });
    }, noop);
  }

  function writeOne(pipe, chunk, written) {
    if (pipe.writer.stream === undefined) { written.resolve(); return; }
    then(writable.write(pipe.writer, chunk), written.resolve, written.reject);
    step(pipe);
  }

  function shutDown(pipe, action, isError, error, atOnce = false) {
    if (pipe.stopping) return;
    pipe.stopping = true;
    const { sink } = pipe;
    const act = () => {
      if (action === undefined) return finish(pipe, isError, error);
      then(action(), () => finish(pipe, isError, error), (other) => finish(pipe, true, other));
    };
    // What was read is written first; but an abort does not wait for a reader who may never come.
    if (sink.state === 'writable' && !writable.closeQueued(sink) && !(atOnce && sink.identity !== undefined)) settleWrites(pipe, act); else act();
  }
  function settleWrites(pipe, act) {
    const { last } = pipe;
    const next = () => { if (pipe.last === last) act(); else settleWrites(pipe, act); };
    then(last, next, next);
  }
  function finish(pipe, isError, error) {
    pipe.forget();
    writable.release(pipe.writer);
    readable.release(pipe.reader);
    if (isError) pipe.done.reject(error); else pipe.done.resolve();
  }

  function watchEnd({ id, ended }) {
    if (host.bodyWatch === undefined) ended.resolve();
    else then(h.attempt(() => host.bodyWatch(id)), () => ended.resolve(), (error) => ended.reject(error));
  }
  // The host's body of a stream that nobody has looked at, given up by the stream; undefined if it is none.
  internal.takeHost = (stream) => {
    if (stream.host === undefined || stream.disturbed || stream.state !== 'readable' || stream.reader !== undefined) return undefined;
    const body = stream.host;
    stream.disturbed = true;
    stream.host = undefined;
    readable.acquire(stream);
    // Only who waits for its end has the host tell of it.
    if (body.ended !== undefined) watchEnd(body);
    return body;
  };
});
