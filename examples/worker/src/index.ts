// A Worker: answers below /api; all other paths are static files.

import { greet } from "./greet";

interface Env {
  GREETING: string;
}

export default {
  async fetch(request: Request, env: Env): Promise<Response> {
    const url = new URL(request.url);
    if (url.pathname === "/api/greeting") {
      const name = url.searchParams.get("name") ?? "world";
      return Response.json({ greeting: greet(env.GREETING, name) });
    }
    if (url.pathname === "/api/echo") {
      // The body is passed on as it comes.
      return new Response(request.body, { headers: { "content-type": "text/plain" } });
    }
    return new Response("nothing here\n", { status: 404 });
  },
};
