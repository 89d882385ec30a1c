// A failed decision in words: what happened, and whether it is safe to press again.

import { Problem } from './api.js';

/** Another refusal than that of a decision (rerouting, delegations) in words. */
export function refusalWords(error) {
  if (!(error instanceof Problem)) return `${error.message} It is not known whether it arrived. Pressing again is safe.`;
  if (error.status === 401) return 'Your sign-in had ended. Nothing was recorded: press again.';
  if (error.status >= 500 || error.status === 429) return 'The server could not take it now. Pressing again is safe.';
  const words = error.body.errors?.map((one) => `${one.pointer ?? ''} ${one.detail}`.trim()).join('; ') || error.message;
  return `Nothing was recorded: ${words}.`;
}

export function failureWords(error) {
  if (!(error instanceof Problem)) {
    return `${error.message} It is not known whether your answer arrived. Pressing again is safe: a request is decided only once.`;
  }
  const trace = error.body.trace_id ? ` (trace ${error.body.trace_id})` : '';
  switch (error.code || error.status) {
    case 'expired': return 'Time ran out before your answer arrived. It was not recorded.';
    case 'action-mismatch': return 'The action is not the one that was on screen. Nothing was recorded: read it again, then decide.';
    case 'unauthenticated': case 401: return 'Your sign-in had ended. Nothing was recorded: press again.';
    case 'own-request': return 'It is asked on your behalf, or on behalf of the person you act for, so somebody else has to approve it. Nothing was recorded.';
    case 'not-assigned': return 'It is assigned to others, or the delegation that you act by no longer stands. Nothing was recorded.';
    case 'already-voted': return 'An approval of yours, or of the person you act for, counts already. Nothing else was recorded.';
    case 'frozen': return 'Approvals of it are stopped by an administrator. Nothing was recorded.';
    case 'forbidden': case 403: return 'You may not decide this request. Nothing was recorded.';
    case 'validation-failed':
      return `The server refused the answer, nothing was recorded: ${error.body.errors?.map((e) => e.detail).join(' ') || error.message}`;
    default:
      if (error.status < 500 && error.status !== 429) return `${error.message}${trace}`;
      return `The server could not take the answer now${error.retryAfter ? ` and asks to wait ${error.retryAfter} s` : ''}. Pressing again is safe.${trace}`;
  }
}
