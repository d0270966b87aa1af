BEGIN TRANSACTION;
CREATE TABLE answer (
	row_no INTEGER NOT NULL, 
	content BLOB NOT NULL, 
	PRIMARY KEY (row_no)
)
 STRICT

;
CREATE TABLE batch (
	batch_no INTEGER NOT NULL, 
	run_no INTEGER NOT NULL, 
	tag TEXT NOT NULL, 
	state TEXT NOT NULL, 
	api_id TEXT, 
	adopted INTEGER DEFAULT '0' NOT NULL, 
	not_ours TEXT DEFAULT '[]' NOT NULL, 
	rows INTEGER DEFAULT '0' NOT NULL, 
	bytes INTEGER DEFAULT '0' NOT NULL, 
	packed_at TEXT NOT NULL, 
	posted_at TEXT, 
	opened_at TEXT, 
	ended_at TEXT, 
	filed_at TEXT, 
	detail TEXT, 
	PRIMARY KEY (batch_no), 
	CONSTRAINT batch_state_is_known CHECK (state in ('packing', 'posting', 'open', 'filed', 'void')), 
	FOREIGN KEY(run_no) REFERENCES run (run_no), 
	UNIQUE (tag), 
	UNIQUE (api_id)
)
 STRICT

;
INSERT INTO "batch" VALUES(1,1,'tag','open','msgbatch_old',0,'[]',3,100,'2026-11-21T12:00:00.000000Z','2026-11-21T12:00:00.000000Z','2026-11-21T12:00:00.000000Z',NULL,NULL,NULL);
CREATE TABLE load (
	load_no INTEGER NOT NULL, 
	run_no INTEGER NOT NULL, 
	part TEXT NOT NULL, 
	sink TEXT NOT NULL, 
	begun_at TEXT NOT NULL, 
	done_at TEXT, 
	PRIMARY KEY (load_no), 
	FOREIGN KEY(run_no) REFERENCES run (run_no), 
	UNIQUE (part)
)
 STRICT

;
CREATE TABLE loaded (
	job TEXT NOT NULL, 
	row_key TEXT NOT NULL, 
	row_id TEXT NOT NULL, 
	job_version TEXT NOT NULL, 
	sink TEXT NOT NULL, 
	part TEXT NOT NULL, 
	row_no INTEGER NOT NULL, 
	PRIMARY KEY (job, row_key)
)
 WITHOUT ROWID,
 STRICT

;
CREATE TABLE migration (
	name TEXT NOT NULL, 
	PRIMARY KEY (name)
)
 STRICT

;
INSERT INTO "migration" VALUES('m001_initial');
CREATE TABLE note (
	note_no INTEGER NOT NULL, 
	row_no INTEGER NOT NULL, 
	turn INTEGER NOT NULL, 
	move TEXT NOT NULL, 
	reason TEXT NOT NULL, 
	detail TEXT NOT NULL, 
	noted_at TEXT NOT NULL, 
	PRIMARY KEY (note_no)
)
 STRICT

;
CREATE TABLE "row" (
	row_no INTEGER NOT NULL, 
	run_no INTEGER NOT NULL, 
	row_key TEXT NOT NULL, 
	row_id TEXT NOT NULL, 
	state TEXT NOT NULL, 
	reason TEXT, 
	tier INTEGER, 
	turn INTEGER DEFAULT '0' NOT NULL, 
	conversation_from INTEGER DEFAULT '0' NOT NULL, 
	tool_calls INTEGER DEFAULT '0' NOT NULL, 
	corrections INTEGER DEFAULT '0' NOT NULL, 
	bounces INTEGER DEFAULT '0' NOT NULL, 
	batch_no INTEGER, 
	load_no INTEGER, 
	cost_micro INTEGER DEFAULT '0' NOT NULL, 
	PRIMARY KEY (row_no), 
	CONSTRAINT row_state_is_known CHECK (state in ('ready', 'in_flight', 'replied', 'answered', 'accepted', 'held', 'loaded', 'quarantined', 'unchanged')), 
	FOREIGN KEY(run_no) REFERENCES run (run_no)
)
 STRICT

;
INSERT INTO "row" VALUES(10000000001,1,'key-1','id-1','replied',NULL,0,1,0,0,0,0,1,NULL,7);
INSERT INTO "row" VALUES(10000000002,1,'key-2','id-2','in_flight',NULL,0,0,0,0,0,0,1,NULL,0);
INSERT INTO "row" VALUES(10000000003,1,'key-3','id-3','in_flight',NULL,0,0,0,0,0,0,1,NULL,0);
CREATE TABLE row_content (
	row_no INTEGER NOT NULL, 
	content BLOB NOT NULL, 
	PRIMARY KEY (row_no)
)
 STRICT

;
INSERT INTO "row_content" VALUES(10000000001,X'7B226E616D65223A22726F772031227D');
INSERT INTO "row_content" VALUES(10000000002,X'7B226E616D65223A22726F772032227D');
INSERT INTO "row_content" VALUES(10000000003,X'7B226E616D65223A22726F772033227D');
CREATE TABLE run (
	run_no INTEGER NOT NULL, 
	run_id TEXT NOT NULL, 
	job TEXT NOT NULL, 
	job_folder TEXT NOT NULL, 
	job_version TEXT NOT NULL, 
	job_files TEXT NOT NULL, 
	tiers TEXT NOT NULL, 
	request BLOB NOT NULL, 
	source TEXT NOT NULL, 
	source_path TEXT, 
	row_limit INTEGER, 
	lane TEXT NOT NULL, 
	read_rows INTEGER DEFAULT '0' NOT NULL, 
	started_at TEXT NOT NULL, 
	extracted_at TEXT, 
	finished_at TEXT, 
	PRIMARY KEY (run_no), 
	UNIQUE (run_id)
)
 STRICT

;
INSERT INTO "run" VALUES(1,'old-run','job','jobs/job','v1','{}','["haiku","sonnet"]',X'22746F6F6C73223A5B5D','rows.csv',NULL,NULL,'auto',3,'2026-11-21T12:00:00.000000Z',NULL,NULL);
CREATE TABLE set_aside (
	job TEXT NOT NULL, 
	row_key TEXT NOT NULL, 
	row_id TEXT NOT NULL, 
	job_version TEXT NOT NULL, 
	row_no INTEGER NOT NULL, 
	PRIMARY KEY (job, row_key)
)
 WITHOUT ROWID,
 STRICT

;
CREATE TABLE tool_call (
	row_no INTEGER NOT NULL, 
	turn INTEGER NOT NULL, 
	position INTEGER NOT NULL, 
	call_id TEXT NOT NULL, 
	tool TEXT NOT NULL, 
	arguments BLOB NOT NULL, 
	output TEXT NOT NULL, 
	is_error INTEGER NOT NULL, 
	milliseconds INTEGER NOT NULL, 
	PRIMARY KEY (row_no, turn, position)
)
 WITHOUT ROWID,
 STRICT

;
CREATE TABLE turn (
	row_no INTEGER NOT NULL, 
	turn INTEGER NOT NULL, 
	batch_no INTEGER NOT NULL, 
	tier INTEGER NOT NULL, 
	stop_reason TEXT NOT NULL, 
	content BLOB NOT NULL, 
	input_tokens INTEGER NOT NULL, 
	cache_write_tokens INTEGER NOT NULL, 
	cache_read_tokens INTEGER NOT NULL, 
	output_tokens INTEGER NOT NULL, 
	cost_micro INTEGER NOT NULL, 
	baseline_micro INTEGER NOT NULL, 
	PRIMARY KEY (row_no, turn)
)
 WITHOUT ROWID,
 STRICT

;
INSERT INTO "turn" VALUES(10000000001,1,1,0,'end_turn',X'5B7B2274797065223A2274657874222C2274657874223A227B7D227D5D',10,0,0,5,7,70);
CREATE INDEX note_by_row ON note (row_no, turn);
CREATE INDEX row_by_state ON "row" (run_no, state, row_no);
CREATE UNIQUE INDEX row_by_key ON "row" (run_no, row_key);
CREATE INDEX batch_by_state ON batch (run_no, state);
COMMIT;
