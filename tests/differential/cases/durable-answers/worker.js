import { DurableObject } from 'cloudflare:workers';

export class Room extends DurableObject {
  alarm() {}

  async fetch(request) {
    const { pathname, searchParams } = new URL(request.url);
    const { storage } = this.ctx;
    switch (pathname) {
      case '/put':
        // Nobody waits for the write but the answer.
        storage.put('put', searchParams.get('v'));
        return new Response('put');
      case '/sql':
        storage.sql.exec('CREATE TABLE IF NOT EXISTS t (v); INSERT INTO t VALUES (?)', searchParams.get('v'));
        return new Response('written');
      case '/many':
        for (let i = 0; i < 100; i++) storage.kv.put(`many ${i}`, 'x'.repeat(1000));
        return new Response('many');
      case '/alarm':
        await storage.setAlarm(4102444800000);
        return new Response('set');
      case '/delete':
        storage.delete('put');
        return new Response('deleted');
    }
    const tables = storage.sql.exec("SELECT count(*) AS n FROM sqlite_master WHERE name = 't'").one().n;
    return Response.json({
      put: storage.kv.get('put') ?? null, many: (await storage.list({ prefix: 'many' })).size,
      alarm: await storage.getAlarm(), sql: tables ? storage.sql.exec('SELECT v FROM t').toArray() : [],
    });
  }
}

export default { fetch: (request, env) => env.ROOM.getByName('one').fetch(request) };
