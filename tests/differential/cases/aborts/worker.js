const told = (error) => ({ name: error?.name, message: error?.message });
const attempt = async (run) => {
  try { return { value: await run() }; } catch (error) { return told(error); }
};

const reason = (signal) => (signal.reason instanceof Error ? told(signal.reason) : signal.reason ?? 'none');
const answers = {
  async reasons() {
    const controller = new AbortController();
    const before = [controller.signal.aborted, reason(controller.signal)];
    controller.abort();
    controller.abort('later');
    const own = new AbortController();
    own.abort({ own: 1 });
    return { before, usual: reason(controller.signal), kind: controller.signal.reason.constructor.name, own: own.signal.reason, abort: reason(AbortSignal.abort()), with: AbortSignal.abort('why').reason };
  },
  async timeout() {
    const signal = AbortSignal.timeout(5);
    const first = signal.aborted;
    await new Promise((resolve) => signal.addEventListener('abort', resolve));
    return [first, signal.aborted, reason(signal), signal.reason.constructor.name, signal.reason.code, await attempt(() => signal.throwIfAborted())];
  },
  async any() {
    const [one, two] = [new AbortController(), new AbortController()];
    const both = AbortSignal.any([one.signal, two.signal]);
    const seen = [];
    both.onabort = (event) => seen.push([event.type, event.target === both]);
    two.abort('two');
    one.abort('one');
    return [both.reason, seen, AbortSignal.any([]).aborted, AbortSignal.any([AbortSignal.abort('gone')]).reason];
  },
  async fetch() { return [await attempt(() => fetch('http://x.test/', { signal: AbortSignal.abort() })), await attempt(() => fetch('http://x.test/', { signal: AbortSignal.abort(new RangeError('own')) })), await attempt(() => fetch('http://x.test/', { signal: 'no signal' }))]; },
  async wait() { const controller = new AbortController(); setTimeout(() => controller.abort(), 5); return [await attempt(() => scheduler.wait(10000, { signal: controller.signal })), await attempt(() => scheduler.wait(1, { signal: AbortSignal.abort('before') }))]; },
  async wrong() { return [await attempt(() => new AbortSignal()), await attempt(() => AbortSignal.timeout(-1)), await attempt(() => AbortSignal.timeout('x')), await attempt(() => AbortSignal.any())]; },
  async once() { const controller = new AbortController(); let count = 0; controller.signal.addEventListener('abort', () => count++); controller.signal.addEventListener('abort', () => { count += 10; }, { once: true }); controller.abort(); controller.abort(); return count; },
  async request() { const controller = new AbortController(); const request = new Request('http://x.test/', { signal: controller.signal }); controller.abort('cut'); return [request.signal.aborted, request.signal === controller.signal, request.signal.reason ?? 'none']; },
};

export default {
  async fetch(request, env, ctx) {
    const { pathname } = new URL(request.url);
    return Response.json(await answers[pathname.slice(1)](env, ctx, request) ?? null);
  },
};
