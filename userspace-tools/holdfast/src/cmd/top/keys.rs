// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! What a key does.

use ratatui::crossterm::event::{Event, KeyCode, KeyEventKind, KeyModifiers};

use super::board::Board;

/// Does what a key says; whether that is the end.
pub(super) fn obey(event: &Event, board: &mut Board) -> bool {
    let Event::Key(key) = event else { return false };
    if key.kind == KeyEventKind::Release {
        return false;
    }
    match key.code {
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return true,
        KeyCode::Char('q') => return true,
        KeyCode::Esc if !board.help => return true,
        KeyCode::Esc => board.help = false,
        KeyCode::Char('h' | '?') => board.help = !board.help,
        KeyCode::Char('s') => board.next_sort(),
        KeyCode::Char('f') => board.next_service(),
        KeyCode::Char('p' | ' ') => board.paused = !board.paused,
        _ => {}
    }
    false
}

#[cfg(test)]
mod tests {
    use super::super::board::tests::{board, look};
    use super::super::board::Sort;
    use super::*;
    use ratatui::crossterm::event::KeyEvent;

    fn press(board: &mut Board, key: char) -> bool {
        let key = KeyEvent::new(KeyCode::Char(key), KeyModifiers::NONE);
        obey(&Event::Key(key), board)
    }

    #[test]
    fn keys_do_what_the_help_says() {
        let mut b = board();
        b.learn(look(0, &[]));
        assert!(press(&mut b, 'q'));
        assert!(!press(&mut b, 'x'));
        for order in [Sort::Stall, Sort::Age, Sort::Rate] {
            press(&mut b, 's');
            assert_eq!(b.sort, order);
        }
        press(&mut b, 'f');
        assert_eq!(
            b.service.map(|s| s.to_string()).as_deref(),
            Some("192.0.2.1:80")
        );
        press(&mut b, 'f');
        assert_eq!(b.service, None, "there is one only");
        press(&mut b, ' ');
        assert!(b.paused);
        press(&mut b, 'p');
        assert!(!b.paused);
        press(&mut b, '?');
        let escape = Event::Key(KeyEvent::new(KeyCode::Esc, KeyModifiers::NONE));
        assert!(b.help);
        assert!(!obey(&escape, &mut b));
        assert!(!b.help);
        assert!(obey(&escape, &mut b));
        let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert!(obey(&Event::Key(interrupt), &mut b));
        assert!(!obey(&Event::Resize(1, 1), &mut b));
    }
}
