import { env } from 'cloudflare:workers';

export const settings = { text: env.TEXT.toUpperCase(), list: env.LIST };
export const current = () => env;
