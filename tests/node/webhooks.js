// Verify and parse requests that tests/e2e/receiver.py printed, with other implementations: Standard
// Webhooks signatures by `standardwebhooks`, CloudEvents by `cloudevents`, Ed25519 by Node.js itself.
//   node webhooks.js KIND [KEY] < lines      KIND: v1, v1a, cloudevent
// Prints one line of JSON for each request.
const { createRequire } = require('module');
const crypto = require('crypto');
const path = require('path');
const from = createRequire(path.join(process.env.NODE_MODULES_DIR, 'package.json'));

function v1(request, key) {
    const { Webhook } = from('standardwebhooks');
    return { payload: new Webhook(key).verify(request.body, request.headers) };
}

function v1a(request, key) {
    const spki = Buffer.concat([Buffer.from('302a300506032b6570032100', 'hex'), Buffer.from(key.slice(5), 'base64')]);
    const pub = crypto.createPublicKey({ key: spki, format: 'der', type: 'spki' });
    const h = request.headers;
    const content = Buffer.from(`${h['webhook-id']}.${h['webhook-timestamp']}.${request.body}`);
    for (const item of h['webhook-signature'].split(' '))
        if (item.startsWith('v1a,') && crypto.verify(null, content, pub, Buffer.from(item.slice(4), 'base64')))
            return { verified: true };
    throw new Error('no v1a signature fits');
}

function cloudevent(request) {
    const { HTTP } = from('cloudevents');
    const message = { headers: request.headers, body: request.body };
    if (!HTTP.isEvent(message))
        throw new Error('not a CloudEvent');
    const event = HTTP.toEvent(message);
    event.validate();
    return event.toJSON();
}

const kinds = { v1, v1a, cloudevent };
const [kind, key] = process.argv.slice(2);
for (const line of require('fs').readFileSync(0, 'utf8').split('\n').filter((l) => l))
    try {
        console.log(JSON.stringify(kinds[kind](JSON.parse(line), key)));
    } catch (e) {
        console.log(JSON.stringify({ error: e.message, detail: e.errors }));
    }
