import { Container, getContainer } from "@cloudflare/containers";

interface Env {
  CRON_CONTAINER: DurableObjectNamespace<CronContainer>;
}

// No port: what runs in the container does its work and ends.
export class CronContainer extends Container<Env> {
  enableInternet = false;

  override onStop({ exitCode }: { exitCode: number }) {
    console.log("the job has ended with", exitCode);
  }
}

export default {
  async fetch(): Promise<Response> {
    return new Response("This Worker starts a container on a schedule.\n");
  },

  async scheduled(controller: ScheduledController, env: Env) {
    const moment = new Date(controller.scheduledTime).toISOString();
    await getContainer(env.CRON_CONTAINER, "job").start({ envVars: { MESSAGE: `Start Time: ${moment}` } });
  },
};
