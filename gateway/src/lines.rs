//! Messages as lines (MCP, "stdio").

use std::io::{Error, ErrorKind, Result};

use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;

/// Longest message, in bytes: binary content travels as base64.
pub const LONGEST: usize = 64 << 20;

/// The next message, without its line end; none at the end of the stream. Cancelling it may lose bytes.
pub async fn next(reader: &mut (impl AsyncBufRead + Unpin)) -> Result<Option<String>> {
    loop {
        let mut line = Vec::new();
        let read = (&mut *reader).take(LONGEST as u64).read_until(b'\n', &mut line).await?;
        if read == LONGEST && !line.ends_with(b"\n") {
            return Err(Error::new(ErrorKind::InvalidData, format!("a message of more than {LONGEST} bytes")));
        }
        let line = String::from_utf8(line).map_err(|error| Error::new(ErrorKind::InvalidData, error))?;
        match line.trim() {
            "" if read == 0 => return Ok(None),
            "" => {}
            text => return Ok(Some(text.to_owned())),
        }
    }
}

/// Hands on the messages of a stream, until it or the receiver ends.
pub async fn read(mut reader: impl AsyncBufRead + Unpin, into: mpsc::Sender<String>) -> Result<()> {
    while let Some(line) = next(&mut reader).await? {
        if into.send(line).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// Writes messages, each in a line, until there are no more.
pub async fn write<M: Into<String>>(
    mut messages: mpsc::Receiver<M>,
    mut writer: impl AsyncWrite + Unpin,
) -> Result<()> {
    while let Some(message) = messages.recv().await {
        let mut message: String = message.into();
        // JSON has line ends between its tokens only: text has them escaped.
        if message.contains(['\n', '\r']) {
            message = message.replace(['\n', '\r'], " ");
        }
        message.push('\n');
        writer.write_all(message.as_bytes()).await?;
        writer.flush().await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_message_is_one_line_whatever_it_looked_like() {
        let mut reader = &b"{\"a\":\r\n\n {\"b\":\"\\n\"}\r\n{\"c\":1}"[..];
        assert_eq!(next(&mut reader).await.unwrap().as_deref(), Some("{\"a\":"));
        assert_eq!(next(&mut reader).await.unwrap().as_deref(), Some("{\"b\":\"\\n\"}"));
        assert_eq!(next(&mut reader).await.unwrap().as_deref(), Some("{\"c\":1}"));
        assert_eq!(next(&mut reader).await.unwrap(), None);
        let (sender, messages) = mpsc::channel::<String>(1);
        let mut written = Vec::new();
        sender.send("{\"a\":\n\"\\n\"}".to_owned()).await.unwrap();
        drop(sender);
        write(messages, &mut written).await.unwrap();
        assert_eq!(written, b"{\"a\": \"\\n\"}\n");
    }

    #[tokio::test]
    async fn the_longest_message_is_read_and_a_longer_one_is_an_error_that_says_so() {
        let mut line = vec![b'x'; LONGEST];
        line[LONGEST - 1] = b'\n';
        assert_eq!(next(&mut &line[..]).await.unwrap().map(|text| text.len()), Some(LONGEST - 1));
        line[LONGEST - 1] = b'x';
        line.push(b'\n');
        let error = next(&mut &line[..]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        assert!(error.to_string().contains(&format!("more than {LONGEST} bytes")), "{error}");
    }
}
