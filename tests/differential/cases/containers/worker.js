import { Container, getContainer } from '@cloudflare/containers';

export class Server extends Container {
  defaultPort = 8080;
  sleepAfter = '10m';
  enableInternet = false;
  notes = [];

  onStart() { this.notes.push('started'); }
  onStop({ exitCode, reason }) { this.notes.push(`stopped ${exitCode} ${reason}`); }
  onError(error) { this.notes.push(`failed ${error.message}`); }

  async told() { return { notes: this.notes, state: (await this.getState()).status, running: this.ctx.container.running }; }

  // Waits until so many notes are there.
  async after(count) {
    for (let tries = 0; tries < 500 && this.notes.length < count; tries++) await scheduler.wait(20);
    return this.told();
  }

  async begin(env) { await this.start({ envVars: env, enableInternet: false }); }
  async ready(portReadyTimeoutMS) {
    try { await this.startAndWaitForPorts({ ports: [8080], startOptions: { envVars: { NEVER_LISTEN: '1' }, enableInternet: false }, cancellationOptions: { portReadyTimeoutMS } }); } catch (error) { return error.message; }
  }
  end() { return this.stop(); }
  kill() { return this.destroy(); }
}

const answers = {
  async together({ SERVER }) {
    const server = getContainer(SERVER, 'together');
    const boots = await Promise.all([1, 2, 3, 4].map(async () => (await server.fetch('http://x/boot')).text()));
    const { state, running } = await server.told();
    return { one: new Set(boots).size, state, running };
  },
  async late({ SERVER }) {
    const server = getContainer(SERVER, 'late');
    await server.begin({ START_DELAY_MS: '1500' });
    const answer = await server.fetch('http://x/env/START_DELAY_MS');
    return [answer.status, await answer.text(), (await server.told()).state];
  },
  async stop({ SERVER }) {
    const server = getContainer(SERVER, 'stop');
    await server.fetch('http://x/boot');
    await Promise.all([server.end(), server.end()]);
    const first = await server.after(2);
    await scheduler.wait(500);
    return [first.notes, (await server.told()).notes.length, first.running];
  },
  async exits({ SERVER }) {
    const results = [];
    for (const code of [0, 3]) {
      const server = getContainer(SERVER, `exits ${code}`);
      await server.fetch(`http://x/exit/${code}`);
      const { notes, running } = await server.after(2);
      results.push(notes, running);
    }
    return results;
  },
  async again({ SERVER }) {
    const server = getContainer(SERVER, 'again');
    const first = await (await server.fetch('http://x/boot')).text();
    await server.kill();
    await server.after(2);
    const second = await (await server.fetch('http://x/boot')).text();
    return [first !== second, second.length > 0];
  },
  async never({ SERVER }) { return getContainer(SERVER, 'never').ready(1500); },
  async answers({ SERVER }) {
    const server = getContainer(SERVER, 'together');
    const statuses = [];
    for (const status of [200, 204, 304, 404, 500]) { const answer = await server.fetch(`http://x/status/${status}`); statuses.push([answer.status, answer.body === null]); }
    const sent = await server.fetch('http://x/sink', { method: 'POST', body: 'x'.repeat(10000) });
    return [statuses, (await sent.text()).includes('10000')];
  },
};
export default {
  async fetch(request, env) { return Response.json(await answers[new URL(request.url).pathname.slice(1)](env)); },
};
