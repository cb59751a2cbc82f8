//! The chat side: cards, decisions, audit questions.
