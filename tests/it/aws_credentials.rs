//! The command line on AWS: credentials as people have them, and words for what is missing.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use data_encoding::HEXLOWER;
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use tempfile::TempDir;

/// Stands in for every service of AWS at once: says no as DynamoDB does, and gives out credentials as STS and SSO do.
struct Aws {
    url: String,
    /// The access key ids that signed a request to DynamoDB.
    signed_by: Arc<Mutex<Vec<String>>>,
}

impl Aws {
    /// One that answers these to DynamoDB's operations: status, kind of error, message.
    fn start(answers: HashMap<&'static str, (u16, &'static str, &'static str)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let signed_by = Arc::new(Mutex::new(Vec::new()));
        let seen = signed_by.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
                let mut headers = HashMap::new();
                loop {
                    let mut line = String::new();
                    reader.read_line(&mut line).unwrap();
                    let Some((name, value)) = line.trim_end().split_once(": ") else {
                        break;
                    };
                    headers.insert(name.to_lowercase(), value.to_owned());
                }
                let length = headers
                    .get("content-length")
                    .map_or(0, |l| l.parse().unwrap());
                let mut body = vec![0; length];
                reader.read_exact(&mut body).unwrap();
                let target = headers.get("x-amz-target").cloned().unwrap_or_default();
                let (status, kind, text) = if let Some(operation) =
                    target.strip_prefix("DynamoDB_20120810.")
                {
                    let signature = &headers["authorization"];
                    let id = signature
                        .split_once("Credential=")
                        .unwrap()
                        .1
                        .split('/')
                        .next();
                    seen.lock().unwrap().push(id.unwrap().to_owned());
                    let (status, kind, message) =
                        answers.get(operation).copied().unwrap_or((200, "", ""));
                    let body = match status {
                        200 => "{}".to_owned(),
                        _ => {
                            format!(r#"{{"__type":"com.amazonaws#{kind}","Message":"{message}"}}"#)
                        }
                    };
                    (status, "application/x-amz-json-1.0", body)
                } else if path.starts_with("/federation/credentials") {
                    assert_eq!(headers["x-amz-sso_bearer_token"], "a token");
                    let body = r#"{"roleCredentials":{"accessKeyId":"BYSSO","secretAccessKey":"s","sessionToken":"t",
                        "expiration":4102444800000}}"#;
                    (200, "application/json", body.to_owned())
                } else {
                    assert!(
                        String::from_utf8(body)
                            .unwrap()
                            .contains("Action=AssumeRole")
                    );
                    let body = "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult>\
                        <AssumedRoleUser><Arn>arn:aws:sts::1:assumed-role/r/s</Arn><AssumedRoleId>i:s</AssumedRoleId></AssumedRoleUser>\
                        <Credentials><AccessKeyId>BYROLE</AccessKeyId><SecretAccessKey>s</SecretAccessKey>\
                        <SessionToken>t</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials>\
                        </AssumeRoleResult></AssumeRoleResponse>";
                    (200, "text/xml", body.to_owned())
                };
                let length = text.len();
                let head = format!(
                    "HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
                );
                let _ = stream.write_all((head + &text).as_bytes());
            }
        });
        Self { url, signed_by }
    }

    /// Runs `hawser api-key create` in a home that has these lines in its configuration; what it says when it fails.
    fn create_key(
        &self,
        home: &Path,
        config: &str,
        more: &[(&str, &str)],
    ) -> Result<String, String> {
        std::fs::create_dir_all(home.join(".aws")).unwrap();
        std::fs::write(home.join(".aws/config"), config).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_hawser"));
        command
            .args(["api-key", "create", "--table", "t", "--tenant", "acme"])
            .env_clear()
            .env("HOME", home)
            .env("PATH", std::env::var("PATH").unwrap())
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_ENDPOINT_URL", &self.url)
            .envs(more.iter().copied());
        let output = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        if output.status.success() {
            Ok(text(output.stdout))
        } else {
            Err(text(output.stderr))
        }
    }
}

const KEYS: [(&str, &str); 3] = [
    ("AWS_ACCESS_KEY_ID", "BYENVIRONMENT"),
    ("AWS_SECRET_ACCESS_KEY", "s"),
    ("AWS_REGION", "eu-west-1"),
];

#[test]
fn credentials_come_as_people_have_them() {
    let home = TempDir::new().unwrap();
    let cache = home.path().join(".aws/sso/cache");
    std::fs::create_dir_all(&cache).unwrap();
    let start = "https://acme.awsapps.com/start";
    let name = HEXLOWER.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, start.as_bytes()).as_ref());
    let token =
        r#"{"accessToken":"a token","expiresAt":"2099-01-01T00:00:00Z","region":"us-east-1"}"#;
    std::fs::write(cache.join(format!("{name}.json")), token).unwrap();
    let process = r#"credential_process = echo '{"Version":1,"AccessKeyId":"BYPROCESS","SecretAccessKey":"s"}'"#;
    let config = format!(
        "[profile process]\nregion = us-east-1\n{process}\n\
         [profile role]\nregion = us-east-1\nrole_arn = arn:aws:iam::1:role/r\nsource_profile = process\n\
         [profile sso]\nregion = us-east-1\nsso_start_url = {start}\nsso_region = us-east-1\n\
         sso_account_id = 123456789012\nsso_role_name = Admin\n"
    );
    for (profile, expected) in [
        ("process", "BYPROCESS"),
        ("role", "BYROLE"),
        ("sso", "BYSSO"),
    ] {
        let aws = Aws::start(HashMap::new());
        let made = aws.create_key(home.path(), &config, &[("AWS_PROFILE", profile)]);
        assert!(
            made.as_ref().is_ok_and(|key| key.starts_with("hwk_")),
            "{profile}: {made:?}"
        );
        let signed_by = aws.signed_by.lock().unwrap().clone();
        assert_eq!(
            signed_by,
            [expected, expected],
            "looked for the table, then wrote"
        );
    }
    let aws = Aws::start(HashMap::new());
    assert!(aws.create_key(home.path(), "", &KEYS).is_ok());
    assert_eq!(aws.signed_by.lock().unwrap()[0], "BYENVIRONMENT");
}

#[test]
fn without_credentials_or_a_table_it_says_what_is_missing() {
    let home = TempDir::new().unwrap();
    let refused = "User: arn:aws:iam::1:user/ada is not authorized to perform: dynamodb:PutItem on resource: arn:x";
    let denied = (400, "AccessDeniedException", refused);
    let cases = [
        (&KEYS[..2], HashMap::new(), "no AWS region"),
        (
            &KEYS[2..],
            HashMap::new(),
            "no AWS credentials: set AWS_PROFILE",
        ),
        (
            &KEYS,
            HashMap::from([("DescribeTable", (400, "ResourceNotFoundException", "no"))]),
            "there is no table t in eu-west-1",
        ),
        (
            &KEYS,
            HashMap::from([("DescribeTable", (400, "ExpiredTokenException", "old"))]),
            "DynamoDB in eu-west-1 answered ExpiredTokenException",
        ),
        (
            &KEYS,
            HashMap::from([("TransactWriteItems", denied), ("DescribeTable", denied)]),
            "not allowed: dynamodb:PutItem",
        ),
    ];
    for (environment, answers, expected) in cases {
        let aws = Aws::start(answers);
        let said = aws.create_key(home.path(), "", environment).unwrap_err();
        assert!(said.contains(expected), "{expected}: {said}");
        assert!(!said.contains("arn:"), "{said}");
    }
    let nowhere = Aws {
        url: "http://127.0.0.1:9".to_owned(),
        signed_by: Arc::default(),
    };
    let said = nowhere.create_key(home.path(), "", &KEYS).unwrap_err();
    assert!(
        said.contains("DynamoDB in eu-west-1 cannot be reached"),
        "{said}"
    );
}
