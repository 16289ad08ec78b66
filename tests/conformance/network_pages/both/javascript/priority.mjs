import { ALL_TRAFFIC, Sandbox } from 'e2b';

// What is allowed is allowed, whatever is denied.
const sandbox = await Sandbox.create({ network: { denyOut: [ALL_TRAFFIC], allowOut: ['1.1.1.1', '8.8.8.8'] } });
