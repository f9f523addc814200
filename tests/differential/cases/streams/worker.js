const told = (error) => ({ name: error?.name, message: error?.message });
const attempt = async (run) => {
  try { return { value: await run() }; } catch (error) { return told(error); }
};

const bytes = (text) => new TextEncoder().encode(text);
const source = (...chunks) => new ReadableStream({ start(controller) { for (const chunk of chunks) controller.enqueue(chunk); controller.close(); } });
const answers = {
  async strings() { return [await attempt(() => new Response(source('text')).text()), await attempt(() => new Response(source(bytes('a'), 5)).text()), await attempt(() => new Response(source(new Uint16Array([0x6261]))).text()), await attempt(() => new Response(source(bytes('d').buffer)).text())]; },
  async failing() {
    const failing = () => new ReadableStream({ pull(controller) { controller.error(new RangeError('in the middle')); } });
    return [await attempt(() => new Response(failing()).text()), await attempt(() => failing().getReader().read()), await attempt(() => new Response(failing()).arrayBuffer())];
  },
  async identity() {
    const { readable, writable } = new IdentityTransformStream();
    const writer = writable.getWriter();
    const wrote = writer.write(bytes('abcde')).then(() => writer.close());
    const reader = readable.getReader({ mode: 'byob' });
    const first = await reader.read(new Uint8Array(3));
    const second = await reader.read(new Uint8Array(10));
    await wrote;
    const end = await reader.read(new Uint8Array(4));
    return [[...first.value], [...second.value], end.done, end.value?.byteLength];
  },
  async fixed() {
    const results = [];
    for (const [length, text] of [[3, 'abc'], [3, 'ab'], [3, 'abcd']]) {
      const { readable, writable } = new FixedLengthStream(length);
      const writer = writable.getWriter();
      const writes = attempt(async () => { await writer.write(bytes(text)); await writer.close(); return 'wrote'; });
      results.push([await attempt(() => new Response(readable).text()), await writes, await attempt(() => writer.closed)]);
    }
    return results;
  },
  async tee() {
    const [one, two] = source(bytes('ab'), bytes('cd')).tee();
    await one.cancel('enough');
    return new Response(two).text();
  },
  async pipe() {
    const written = [];
    const sink = () => new WritableStream({ write(chunk) { written.push(new TextDecoder().decode(chunk)); }, close() { written.push('closed'); }, abort(reason) { written.push(`aborted ${reason?.message ?? reason}`); } });
    await source(bytes('a'), bytes('b')).pipeTo(sink());
    await source(bytes('c')).pipeTo(sink(), { preventClose: true });
    const failed = await attempt(() => new ReadableStream({ start(controller) { controller.error(new Error('source')); } }).pipeTo(sink()));
    return { written, failed };
  },
  async iteration() { const seen = []; for await (const chunk of source(1, 'two', null)) seen.push(chunk); return seen; },
  async from() { return attempt(async () => { const seen = []; for await (const chunk of ReadableStream.from(['a', Promise.resolve('b')])) seen.push(chunk); return seen; }); },
  async transform() {
    const upper = new TransformStream({ transform(chunk, controller) { controller.enqueue(chunk.toUpperCase()); }, flush(controller) { controller.enqueue('!'); } });
    const seen = [];
    for await (const chunk of source('a', 'b').pipeThrough(upper)) seen.push(chunk);
    return seen;
  },
  async decoding() { const seen = []; for await (const chunk of source(new Uint8Array([0xc3]), new Uint8Array([0xa9, 0x21])).pipeThrough(new TextDecoderStream())) seen.push(chunk); return seen.join('|'); },
  async cancelled() { const notes = []; const stream = new ReadableStream({ cancel(reason) { notes.push(`cancelled ${reason}`); } }); await stream.cancel('why'); return [notes, await attempt(() => new Response(stream).text())]; },
};

export default {
  async fetch(request, env, ctx) {
    const { pathname } = new URL(request.url);
    return Response.json(await answers[pathname.slice(1)](env, ctx, request) ?? null);
  },
};
