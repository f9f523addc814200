// Two streams of one stream of bytes. Where a branch is read into a view, so is what it comes from.
(function (internal) {
  'use strict';
  const { p, h, natives, readable, enqueueBytes, closeBytes, failBytes } = internal;
  const { then, typedLength } = p;
  const { resolved, noop } = h;

  // `reader` of the stream, of the kind that was needed last; what is asked for while it reads comes `again` later, by branch.
  internal.teeBytes = (stream) => {
    const tee = { stream, reader: readable.acquire(stream), reading: false, again: [false, false], gone: [false, false], branches: [] };
    for (let i = 0; i < 2; i++) {
      tee.branches[i] = internal.makeByteStream(() => pull(tee, i), readable.cancelBranch(stream, tee, i));
      tee.branches[i].length = stream.length;
    }
    watch(tee);
    return tee.branches;
  };

  // An error of the stream is the branches', as long as this reader is the one.
  function watch(tee) {
    const { reader } = tee;
    then(reader.closed.promise, noop, (error) => {
      if (tee.reader !== reader) return;
      for (let i = 0; i < 2; i++) failBytes(tee.branches[i].controller, error);
    });
  }
  function readAs(tee, byob) {
    if (tee.reader.byob === byob) return;
    const before = tee.reader;
    tee.reader = undefined;
    readable.release(before);
    tee.reader = readable.newReader(tee.stream, byob);
    watch(tee);
  }

  function pull(tee, index) {
    if (tee.reading) { tee.again[index] = true; return resolved(); }
    tee.reading = true;
    const view = internal.viewToFill(tee.branches[index].controller);
    if (view === undefined) pullChunk(tee); else pullView(tee, view, index);
    return resolved();
  }
  function goOn(tee) {
    tee.reading = false;
    if (tee.again[0]) pull(tee, 0); else if (tee.again[1]) pull(tee, 1);
  }

  function pullChunk(tee) {
    readAs(tee, false);
    readable.read(tee.reader, {
      __proto__: null,
      chunk: (chunk) => h.microtask(() => {
        tee.again = [false, false];
        const second = tee.gone[0] || tee.gone[1] ? chunk : natives.copy(chunk);
        for (let i = 0; i < 2; i++) if (!tee.gone[i]) enqueueBytes(tee.branches[i].controller, i === 0 ? chunk : second);
        goOn(tee);
      }),
      close: () => {
        tee.reading = false;
        for (let i = 0; i < 2; i++) if (!tee.gone[i]) closeBytes(tee.branches[i].controller);
      },
      error: () => { tee.reading = false; },
    });
  }

  // The view is the branch's own: it is filled, and goes back.
  function pullView(tee, view, index) {
    const own = tee.branches[index].controller;
    const other = tee.branches[1 - index].controller;
    readAs(tee, true);
    tee.stream.disturbed = true;
    if (tee.stream.state === 'errored') { tee.reading = false; return; }
    tee.stream.controller.byob(view, 1, {
      __proto__: null,
      chunk: (filled) => h.microtask(() => {
        tee.again = [false, false];
        const copy = tee.gone[1 - index] ? undefined : natives.copy(filled);
        if (!tee.gone[index]) {
          internal.giveBack(own, filled);
          internal.respondBytes(own, typedLength(filled));
        }
        if (copy !== undefined) enqueueBytes(other, copy);
        goOn(tee);
      }),
      close: (rest) => {
        tee.reading = false;
        if (!tee.gone[index]) {
          if (rest !== undefined) internal.giveBack(own, rest);
          closeBytes(own);
        }
        if (!tee.gone[1 - index]) closeBytes(other);
      },
      error: () => { tee.reading = false; },
    });
  }
});
