import { ALL_TRAFFIC, Sandbox } from 'novita-sandbox';

const sandbox = await Sandbox.create();
await sandbox.setNetwork({ allowOut: ['api.example.com'], denyOut: [ALL_TRAFFIC] });

// By its id, from anywhere.
const other = await Sandbox.create();
await Sandbox.setNetwork(other.sandboxId, { denyOut: ['1.1.1.1'] });
