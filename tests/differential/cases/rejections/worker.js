const told = (error) => ({ name: error?.name, message: error?.message });
const attempt = async (run) => {
  try { return { value: await run() }; } catch (error) { return told(error); }
};

const events = [];
addEventListener('unhandledrejection', (event) => { events.push(['unhandled', event.reason?.message ?? event.reason, event.constructor.name, event.promise instanceof Promise]); });
addEventListener('rejectionhandled', (event) => { events.push(['handled', event.reason?.message ?? event.reason]); });
const answers = {
  async lost() { Promise.reject(new Error('lost')); await scheduler.wait(1); return 'answered'; },
  async late() { const promise = Promise.reject(new Error('late')); await scheduler.wait(5); promise.catch(() => {}); await scheduler.wait(5); return 'answered'; },
  async handled() { const promise = Promise.reject(new Error('in time')); promise.catch(() => {}); await null; return 'answered'; },
  async turn() { const promise = Promise.reject(new Error('same turn')); await null; await null; promise.catch(() => {}); return 'answered'; },
  async thrown() { setTimeout(() => { throw new Error('of a timer'); }, 1); await scheduler.wait(10); return 'answered'; },
  async text() { Promise.reject('a text'); await scheduler.wait(1); return 'answered'; },
  async events() { return events; },
};

export default {
  async fetch(request, env, ctx) {
    const { pathname } = new URL(request.url);
    return Response.json(await answers[pathname.slice(1)](env, ctx, request) ?? null);
  },
};
