import { ALL_TRAFFIC, Sandbox } from 'e2b';

// Nothing but these.
const only = await Sandbox.create({ network: { denyOut: [ALL_TRAFFIC], allowOut: ['1.1.1.1', '8.8.8.0/24'] } });

// Everything but this.
const allBut = await Sandbox.create({ network: { denyOut: ['8.8.8.8'] } });
