//! What proxyd answers by itself, as a value: decided in one place, written in another.

use crate::base::reason::Reason;
use crate::http::answer::{
    self, AnswerContext, Extra, Respond, must_close, write_error, write_options, write_redirect,
    write_respond,
};
use crate::http::edit::ResponseRules;
use crate::http::redirect::Redirect;
use crate::http::template::Facts;
use crate::proto::http1::status::phrase;

/// Methods that a reverse proxy serves.
const ALLOW: &[u8] = b"GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS";

/// An answer of our own.
#[derive(Clone, Debug)]
pub enum Answer {
    /// An error.
    Error(Reason),
    /// 405 with the methods that are allowed.
    MethodNotAllowed(Vec<u8>),
    /// 204 to an OPTIONS that goes no further.
    Options,
    /// `respond`.
    Respond {
        /// The status.
        status: u16,
        /// Content-Type.
        content_type: String,
        /// The body.
        body: Vec<u8>,
    },
    /// `redirect` and `redirect_to_https`.
    Redirect(Redirect),
}

impl Answer {
    /// Whether the connection ends with it (rules 2.7, 5.1 and 9.2).
    #[must_use]
    pub const fn closes(&self) -> bool {
        match self {
            Self::Error(reason) => must_close(*reason) || matches!(reason, Reason::BodyTooLarge),
            Self::MethodNotAllowed(_)
            | Self::Options
            | Self::Respond { .. }
            | Self::Redirect(_) => false,
        }
    }

    /// The word for the record.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Error(reason) => *reason,
            Self::MethodNotAllowed(_) => Reason::MethodNotAllowed,
            Self::Options => Reason::Ok,
            Self::Respond { .. } => Reason::RouteRespond,
            Self::Redirect(_) => Reason::RouteRedirect,
        }
    }

    /// The payload that goes out with it.
    #[must_use]
    pub fn body_len(&self, status: u16, head_request: bool) -> u64 {
        match self {
            _ if head_request => 0,
            Self::Respond { body, .. } => body.len() as u64,
            // `404 Not Found` and a line end.
            Self::Error(_) | Self::MethodNotAllowed(_) => phrase(status).len() as u64 + 5,
            Self::Options | Self::Redirect(_) => 0,
        }
    }

    /// Writes it and returns the status; 0 when there is nothing to send.
    ///
    /// # Errors
    /// Something of it cannot be written.
    pub fn write(
        &self,
        out: &mut Vec<u8>,
        facts: &Facts<'_>,
        rules: &ResponseRules,
        cx: &AnswerContext<'_>,
    ) -> Result<u16, Reason> {
        match self {
            Self::Error(Reason::TraceRefused) => {
                let extra = Extra {
                    allow: Some(ALLOW),
                    ..Extra::default()
                };
                Ok(write_error(out, Reason::TraceRefused, &extra, cx))
            }
            Self::Error(reason) => Ok(write_error(out, *reason, &Extra::default(), cx)),
            Self::MethodNotAllowed(allow) => {
                let extra = Extra {
                    allow: Some(allow),
                    ..Extra::default()
                };
                Ok(write_error(out, Reason::MethodNotAllowed, &extra, cx))
            }
            Self::Options => write_options(out, ALLOW, cx).map(|()| 204),
            Self::Respond {
                status,
                content_type,
                body,
            } => {
                let respond = Respond {
                    status: *status,
                    content_type,
                    body,
                };
                write_respond(out, &respond, facts, rules, cx).map(|()| *status)
            }
            Self::Redirect(redirect) => {
                write_redirect(out, redirect, facts, rules, cx).map(|()| redirect.status())
            }
        }
    }
}

/// The interim response that asks for a body.
pub const CONTINUE: &[u8] = answer::CONTINUE;
