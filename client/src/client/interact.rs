//! An interactive job: its input and its events, as they come.

use std::fmt;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream;

use crate::api::{Event, ExecuteRequest, Input, Window};
use crate::error::Error;
use crate::http::{Ear, Method, Mouth, Opened, Reply};
use crate::ids::Language;

use super::{Call, Client, Events, path};

/// What a caller says to a program that runs. Everything waits while the program has a megabyte of
/// input to read yet.
pub struct Keyboard(Mouth);

impl Keyboard {
    /// Gives the program input.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        Ok(self.0.bytes(Bytes::copy_from_slice(bytes)).await?)
    }

    /// Ends the program's input.
    pub async fn end(&mut self) -> Result<(), Error> {
        self.say(&Input::Eof {}).await
    }

    /// Sends a signal, by its name, to the program's process group.
    pub async fn signal(&mut self, name: &str) -> Result<(), Error> {
        let signal = name.to_owned();
        self.say(&Input::Signal { signal }).await
    }

    /// Says that the terminal's window has another size.
    pub async fn resize(&mut self, terminal: Window) -> Result<(), Error> {
        self.say(&Input::Resize { terminal }).await
    }

    async fn say(&mut self, input: &Input) -> Result<(), Error> {
        let json =
            serde_json::to_string(input).expect("wire types have string keys and no failing parts");
        Ok(self.0.text(json).await?)
    }
}

impl fmt::Debug for Keyboard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyboard").finish_non_exhaustive()
    }
}

impl Client {
    /// `GET /packages/{package}/{version}/execute` as a WebSocket: runs a job that can be talked
    /// with, on a terminal when a window is given. What the run stage prints is in the events
    /// alone. Dropping both what is returned kills the job.
    pub async fn interact(
        &self,
        package: &Language,
        range: &str,
        request: &ExecuteRequest,
        terminal: Option<Window>,
    ) -> Result<(Keyboard, Events), Error> {
        let path = path(&["packages", package.as_str(), range, "execute"]);
        let opened = self
            .connection
            .socket(Call::new(Method::Get, path).0)
            .await?;
        let (mouth, ear) = match opened {
            Opened::Socket(both) => *both,
            Opened::Refused(reply) => {
                let reply = self.accept(reply)?;
                let reason = "no WebSocket".to_owned();
                return Err(self.undecodable(&reply, reason).into());
            }
        };
        let mut keyboard = Keyboard(mouth);
        let request = Box::new(request.clone());
        keyboard.say(&Input::Start { request, terminal }).await?;
        let events = stream::unfold(Some((self.clone(), ear)), async |hearing| {
            let (client, mut ear) = hearing?;
            match client.hear(&mut ear).await {
                Ok(event @ Event::Result { .. }) => Some((Ok(event), None)),
                Ok(event) => Some((Ok(event), Some((client, ear)))),
                Err(error) => Some((Err(error), None)),
            }
        });
        Ok((keyboard, Events(events.boxed())))
    }

    async fn hear(&self, ear: &mut Ear) -> Result<Event, Error> {
        let body = ear.next().await?;
        match serde_json::from_slice(&body) {
            Ok(Event::Error { problem }) => Err(Error::Fault(problem)),
            Ok(event) => Ok(event),
            Err(error) => {
                let reply = Reply { status: 101, body };
                Err(self.undecodable(&reply, error.to_string()).into())
            }
        }
    }
}
