import { ALL_TRAFFIC, Sandbox } from 'e2b';

const sandbox = await Sandbox.create({ network: { denyOut: [ALL_TRAFFIC] } });

// What an update does not name is lifted.
await sandbox.updateNetwork({});
