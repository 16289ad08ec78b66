import { ALL_TRAFFIC, Sandbox } from 'e2b';

// A name, and no other.
const one = await Sandbox.create({ network: { allowOut: ['google.com'], denyOut: [ALL_TRAFFIC] } });

// Every name below a domain.
const below = await Sandbox.create({ network: { allowOut: ['*.mydomain.com'], denyOut: [ALL_TRAFFIC] } });

// Names, addresses and networks together.
const mixed = await Sandbox.create({
  network: { allowOut: ['api.example.com', '*.github.com', '8.8.8.8'], denyOut: [ALL_TRAFFIC] },
});
