// graphile-worker and pg-boss through their own clients, driven by trunkline-bench over stdin and stdout.
// The database is the one that PG* names.
//   node peer.js PEER install              make its schema, note its statements, print the version
//   node peer.js PEER worker SETTINGS      handle events and count them; speaks as bench/consumer.c does
//   node peer.js PEER publisher            "run SECONDS" is answered by: events, nanoseconds, CPU microseconds
'use strict';
const { EventEmitter } = require('events');
const { createRequire } = require('module');
const path = require('path');
const readline = require('readline');

const from = createRequire(path.join(process.env.NODE_MODULES_DIR, 'package.json'));
const version = (name) => from(path.join(process.env.NODE_MODULES_DIR, 'node_modules', name, 'package.json')).version;

const CALLERS = 32;
const BATCH = 1000;
const now = () => Number(process.hrtime.bigint()); // CLOCK_MONOTONIC, exact for a hundred days

// ------------------------------------------------------------------------------------- the peers --

const graphile = {
    package: 'graphile-worker',

    // What the client itself would send, less the parameters that have defaults.
    async install() {
        const { runMigrations } = from('graphile-worker');
        await runMigrations({ connectionString: 'postgres://' });
        return {
            publish: { sql: "SELECT j.id FROM graphile_worker.add_job('event', payload => $1::json) j" },
            batch: {
                sql: `SELECT count(*) FROM graphile_worker.add_jobs(ARRAY(
                    SELECT ROW('event', d::json, NULL, NULL, NULL, NULL, NULL, NULL)::graphile_worker.job_spec
                    FROM unnest($1::text[]) d))`,
            },
            reset: { sql: 'TRUNCATE graphile_worker._private_jobs' },
        };
    },

    async worker(settings, handle) {
        const { run, Logger } = from('graphile-worker');
        const events = new EventEmitter();
        const listening = new Promise((done) => events.once('pool:listen:success', done));
        const runner = await run({
            preset: {
                worker: { connectionString: 'postgres://', events, logger: new Logger(() => () => {}), ...settings },
            },
            taskList: { event: (payload) => handle(payload.t) },
            noHandleSignals: true,
        });
        await listening;
        return () => runner.stop();
    },

    async publisher() {
        const { makeWorkerUtils } = from('graphile-worker');
        const { Pool } = from('pg');
        const pool = new Pool({ max: CALLERS });
        for (const event of ['error', 'connect'])
            pool.on(event, () => {}); // it asks for these
        const utils = await makeWorkerUtils({ pgPool: pool });
        return (data) => utils.addJob('event', data);
    },
};

const boss = {
    package: 'pg-boss',
    queues: { off: 'bench', on: 'bench_notify' },

    open(options) {
        const { PgBoss } = from('pg-boss');
        const b = new PgBoss({
            host: process.env.PGHOST,
            port: Number(process.env.PGPORT),
            user: process.env.PGUSER,
            database: process.env.PGDATABASE,
            schedule: false,
            ...options,
        });
        b.on('error', (e) => console.error(`pg-boss: ${e.message}`));
        return b;
    },

    // The statements are caught on their way to the database.
    async install(pool) {
        const b = this.open({ useListenNotify: true });
        const caught = {};
        const spy = (kind) => ({
            executeSql(sql, values) {
                caught[kind] = { sql: sql.replace('$1::text::json', '$1::json'), parameter: values[0] };
                return pool.query(sql, values);
            },
        });

        await b.start();
        await b.createQueue(this.queues.off);
        await b.createQueue(this.queues.on, { notify: true });
        const data = await invoice(pool);
        await b.send(this.queues.off, data, { db: spy('publish') });
        await b.send(this.queues.on, data, { db: spy('publish_live') });
        await b.insert(this.queues.off, Array(BATCH).fill({ data }), { db: spy('batch'), returnId: true });
        await b.insert(this.queues.on, Array(BATCH).fill({ data }), { db: spy('batch_live'), returnId: true });
        await b.stop({ graceful: false });
        caught.reset = { sql: 'TRUNCATE pgboss.job CASCADE' };
        return caught;
    },

    async worker(settings, handle) {
        const { queue, max, ...work } = settings;
        const b = this.open({ useListenNotify: queue === this.queues.on, max: max ?? 10 });
        await b.start();
        await b.work(queue, work, async (jobs) => {
            for (const job of jobs)
                handle(job.data.t);
        });
        return () => b.stop({ graceful: true, timeout: 20000 });
    },

    async publisher() {
        const b = this.open({ max: CALLERS, supervise: false });
        await b.start();
        return (data) => b.send(this.queues.off, data);
    },
};

const peers = { 'graphile-worker': graphile, 'pg-boss': boss };

async function invoice(pool) {
    const { rows } = await pool.query("SELECT parameter FROM bench_peers WHERE peer = 'all' AND kind = 'payload'");
    return JSON.parse(rows[0].parameter);
}

// --------------------------------------------------------------------------------------- the parts --

async function install(peer) {
    const { Pool } = from('pg');
    const pool = new Pool();
    const statements = await peer.install(pool);
    for (const [kind, { sql, parameter }] of Object.entries(statements))
        await pool.query('INSERT INTO bench_peers (peer, kind, sql, parameter) VALUES ($1, $2, $3, $4)', [
            peer.package,
            kind,
            sql,
            parameter ?? null,
        ]);
    await pool.end();
    console.log(`${version(peer.package)} (Node.js ${process.versions.node})`);
}

async function worker(peer, settings) {
    const latency = new Float64Array(1000000);
    let latencies = 0;
    let events = 0;
    let first = 0;
    let last = 0;
    let wanted = 0;

    const answer = () => {
        if (wanted > 0 && events >= wanted) {
            wanted = 0;
            process.stdout.write(`${last}\n`);
        }
    };
    const stop = await peer.worker(settings, (stamp) => {
        last = now();
        if (events++ === 0)
            first = last;
        if (stamp !== undefined && latencies < latency.length)
            latency[latencies++] = (last - stamp) / 1e3;
        answer();
    });
    process.stdout.write('ready\n');
    for await (const line of readline.createInterface({ input: process.stdin })) {
        wanted = Number(line.split(' ')[1]);
        answer();
    }
    await stop();
    process.stdout.write(`${events} ${first} ${last} ${latencies}\n`);
    process.stdout.write(Buffer.from(latency.buffer, 0, latencies * 8), () => process.exit(0));
}

async function publisher(peer) {
    const { Pool } = from('pg');
    const pool = new Pool({ max: 1 });
    const data = await invoice(pool);
    const publish = await peer.publisher();

    process.stdout.write('ready\n');
    for await (const line of readline.createInterface({ input: process.stdin })) {
        const cpu = process.cpuUsage();
        const start = now();
        const end = start + Number(line.split(' ')[1]) * 1e9;
        let events = 0;
        const caller = async () => {
            while (now() < end) {
                await publish(data);
                events++;
            }
        };

        await Promise.all(Array.from({ length: CALLERS }, caller));
        const elapsed = now() - start;
        const { user, system } = process.cpuUsage(cpu);
        process.stdout.write(`${events} ${elapsed} ${user + system}\n`);
    }
    process.exit(0);
}

const [name, part, settings = '{}'] = process.argv.slice(2);
const parts = { install, worker, publisher };
parts[part](peers[name], JSON.parse(settings)).catch((e) => {
    console.log(String(e.message ?? e).split('\n')[0]);
    process.exit(1);
});
