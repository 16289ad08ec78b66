import { ALL_TRAFFIC, Sandbox } from 'e2b';

const sandbox = await Sandbox.create();
await sandbox.updateNetwork({ allowOut: ['api.example.com'], denyOut: [ALL_TRAFFIC] });
