import { Container, getContainer } from "@cloudflare/containers";

interface Env {
  ACCOUNT_NAME: string;
  ACCOUNT_API_KEY: string;
  ACCOUNT_API_KEY_ONE: string;
  CONTAINER_SECRET_KEY: string;
  SHARED: DurableObjectNamespace<Shared>;
  OWN: DurableObjectNamespace<Own>;
}

// Every container of this class gets the same.
export class Shared extends Container<Env> {
  defaultPort = 8080;
  sleepAfter = "10m";
  enableInternet = false;
  envVars = {
    ACCOUNT_NAME: this.env.ACCOUNT_NAME,
    GREETING: "hello from the class",
    ACCOUNT_API_KEY: this.env.ACCOUNT_API_KEY,
    CONTAINER_SECRET_KEY: this.env.CONTAINER_SECRET_KEY,
  };
}

// A container of this one gets what it is started with.
export class Own extends Container<Env> {
  defaultPort = 8080;
  sleepAfter = "10m";
  enableInternet = false;
}

export default {
  async fetch(request: Request, env: Env): Promise<Response> {
    const { pathname } = new URL(request.url);
    switch (pathname) {
      case "/shared":
        return getContainer(env.SHARED).fetch(request);
      case "/own/one": {
        const container = getContainer(env.OWN, "one");
        await container.startAndWaitForPorts({
          startOptions: {
            envVars: {
              ACCOUNT_NAME: `${env.ACCOUNT_NAME}-1`,
              ACCOUNT_API_KEY: env.ACCOUNT_API_KEY_ONE,
              CONTAINER_SECRET_KEY: env.CONTAINER_SECRET_KEY,
            },
          },
        });
        return container.fetch(request);
      }
      default:
        return new Response("/shared, /own/one\n");
    }
  },
};
