import { Container, getRandom } from "@cloudflare/containers";

interface Env {
  ASSETS: Fetcher;
  BACKEND: DurableObjectNamespace<Backend>;
}

export class Backend extends Container<Env> {
  defaultPort = 8080;
  sleepAfter = "2h";
  enableInternet = false;
}

// Any of so many containers may answer.
const INSTANCES = 3;

export default {
  async fetch(request: Request, env: Env): Promise<Response> {
    if (new URL(request.url).pathname.startsWith("/api/")) {
      return (await getRandom(env.BACKEND, INSTANCES)).fetch(request);
    }
    const page = await env.ASSETS.fetch(request);
    const answer = new Response(page.body, page);
    answer.headers.set("content-security-policy", "default-src 'self'");
    return answer;
  },
};
