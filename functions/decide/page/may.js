// What a person may do with a request, as the server says it, and the reasons in words. Pure functions only.

const WHY_NOT = {
  expired: 'Time is over: an answer no longer counts.',
  'not-assigned': 'It is assigned to others: you may read it, and they decide.',
  'own-request': 'It is asked on your behalf, so somebody else has to approve it.',
  frozen: 'Approvals of it are stopped by an administrator.',
  'already-voted': 'You have approved it already: further approvals have to come from others.',
};
export const TIME_IS_OVER = WHY_NOT.expired;

/** Whether one approval is not enough. */
export const needsSeveral = ({ approvals }) => approvals?.required > 1;
/** The votes of a request, the oldest first. */
export const votesOf = ({ votes }) => (Array.isArray(votes) ? votes : []);
/** Approvals that are still missing. */
export const missing = ({ approvals }) => Math.max(0, approvals.required - approvals.given);

const isBy = (person) => ({ voted_by: by }) => Boolean(person) && (by?.id === person || by?.for?.id === person);

/** Whom an answer names: nobody counts twice, neither as themselves nor through who acts for them. */
const hasVoted = (detail, ...people) => votesOf(detail).some((vote) => people.some((person) => isBy(person)(vote)));

/** The persons for whom this one may answer it, by a delegation. */
export const actingFor = ({ you }) => (Array.isArray(you?.may_act_for) ? you.may_act_for : []);

/** Why an answer cannot be given: '' where it can. `as` is who answers: {me, for: id or ''}. */
export function stopOf(detail, answer, as) {
  const isApproval = answer === 'approve' || answer === 'edit';
  if (needsSeveral(detail) && (answer === 'edit' || answer === 'respond')) return `It needs ${detail.approvals.required} approvals, so it can only be approved or rejected as it was asked.`;
  if (isApproval && hasVoted(detail, as.me, as.for)) return as.for && !hasVoted(detail, as.me) ? 'The person you act for has approved it already.' : WHY_NOT['already-voted'];
  const { may, why_not: code } = detail.you ?? {};
  if (!Array.isArray(may) || may.includes(answer) || (as.for && code === 'not-assigned')) return '';
  if (WHY_NOT[code]) return WHY_NOT[code];
  return may.length ? `You may not ${answer} this request.` : 'You may not decide this request.';
}

/** Whether a person may answer it as themselves, in any way. */
export const mayMyself = ({ you }) => !Array.isArray(you?.may) || you.may.length > 0 || you.why_not !== 'not-assigned';

/** Why several cannot be approved at once: '' where they can. */
export function whyNotAtOnce(items) {
  const urgent = items.filter(({ priority }) => priority === 'P1').length;
  if (urgent) return `A P1 is approved by itself: ${urgent} of the ${items.length} ${urgent === 1 ? 'is one' : 'are'}.`;
  const kinds = new Set(items.map(({ action_type: type }) => type)).size;
  return kinds > 1 ? `Approving takes one kind of action at once; these are of ${kinds} kinds.` : '';
}

/** Somebody else who says to be at it, while that counts. */
export function claimedByOther({ claimed_by: by, claimed_until: until }, me, at) {
  const id = by?.id ?? by;
  return id && id !== me && Date.parse(until) > at ? { id, name: by.name || id, until } : null;
}
